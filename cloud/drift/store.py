"""The SQL of drift: each device's last window, one row for each slot."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import (  # fmt: skip
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    LargeBinary,
    Row,
    String,
    Table,
    and_,
    insert,
    select,
    update,
)

from cloud.drift.entities import DeviceDrift
from cloud.fleet.store import devices
from cloud.foundation.database import metadata
from protos.kit.differences import Difference
from protos.v1.sketches_pb2 import Sketch

windows = Table(
    "drift",
    metadata,
    Column("device", ForeignKey(devices.c.id, ondelete="CASCADE"), primary_key=True),
    Column("slot", String(63), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("manifest", LargeBinary(32), nullable=False),
    Column("variant", String, nullable=False),
    Column("began_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("alarm", String, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("labels_psi", Float, nullable=False),
    Column("labels_p", Float, nullable=False),
    Column("confidences_psi", Float, nullable=False),
    Column("confidences_p", Float, nullable=False),
    Column("input_shift", Float, nullable=False),
    Column("looked_at", BigInteger, nullable=False),
    Column("sketch", LargeBinary, nullable=False),
)

_DIFFERENCE = [field.name for field in fields(Difference)]
_OWN = [field.name for field in fields(DeviceDrift) if field.name not in {"difference", "sketch"}]


def put(connection: Connection, window: DeviceDrift) -> bool:
    """Write a device's last window over the one before. A device that has not reported has none: then False."""
    values: dict[str, Any] = {name: getattr(window, name) for name in _OWN}
    values |= asdict(window.difference) | {"sketch": window.sketch.SerializeToString()}
    there = and_(windows.c.device == window.device, windows.c.slot == window.slot)
    if connection.execute(update(windows).where(there).values(values)).rowcount:
        return True
    known = connection.execute(select(devices.c.id).where(devices.c.id == window.device)).one_or_none() is not None
    if known:
        connection.execute(insert(windows).values(values))
    return known


def get(connection: Connection, device: str, slot: str) -> DeviceDrift | None:
    """The last window of a device's slot."""
    wanted = select(windows).where(windows.c.device == device, windows.c.slot == slot)
    row = connection.execute(wanted).one_or_none()
    return _window(row) if row else None


def find(connection: Connection, model: str | None, device: str | None) -> list[DeviceDrift]:
    """Last windows by device, of one model or one device if such is given."""
    wanted = select(windows).order_by(windows.c.device, windows.c.slot)
    if model is not None:
        wanted = wanted.where(windows.c.model == model)
    if device is not None:
        wanted = wanted.where(windows.c.device == device)
    return [_window(row) for row in connection.execute(wanted)]


def _window(row: Row[Any]) -> DeviceDrift:
    own = {name: getattr(row, name) for name in _OWN}
    difference = Difference(**{name: getattr(row, name) for name in _DIFFERENCE})
    return DeviceDrift(**own, difference=difference, sketch=Sketch.FromString(row.sketch))
