"""The SQL of drift's account: what was seen and said in each hour, added up as windows arrive.

For each model version there is a row of each device's slot and one of all devices together: a history over months reads
one row an hour, however many devices there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)

from cloud.drift.entities import DeviceDrift, DriftHour, Stretch
from cloud.foundation.database import metadata
from protos.kit import sketches
from protos.v1.sketches_pb2 import Sketch

hours = Table(
    "drift_hours",
    metadata,
    Column("device", String(63), primary_key=True),  # with slot empty: of all devices
    Column("hour", Integer, primary_key=True, autoincrement=False),  # since 1970, by the cloud's clock
    Column("slot", String(63), primary_key=True),
    Column("manifest", LargeBinary(32), primary_key=True),
    Column("variant", String, primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("windows", BigInteger, nullable=False),
    Column("sketch", LargeBinary, nullable=False),
    Index("drift_hours_by_time", "hour"),
)
c = hours.c


def add(connection: Connection, hour: int, window: DeviceDrift) -> None:
    """Add a window to its device's row of an hour and to that of all. The transaction must be the only writer."""
    for device, slot in ((window.device, window.slot), ("", "")):
        key = {"hour": hour, "device": device, "slot": slot, "manifest": window.manifest, "variant": window.variant}
        there = [c[name] == value for name, value in key.items()]
        before = connection.execute(select(c.windows, c.sketch).where(*there)).one_or_none()
        if before is None:
            first = {"model": window.model, "version": window.version, "windows": 1}
            connection.execute(insert(hours).values(**key, **first, sketch=window.sketch.SerializeToString()))
        else:
            sketch = sketches.added((Sketch.FromString(before.sketch), window.sketch)).SerializeToString()
            connection.execute(update(hours).where(*there).values(windows=before.windows + 1, sketch=sketch))


def find(connection: Connection, stretch: Stretch, limit: int) -> list[DriftHour]:
    """At most `limit` rows, oldest first."""
    wanted = (
        select(hours).where(*_conditions(stretch)).order_by(c.hour, c.slot, c.model, c.version, c.variant).limit(limit)
    )
    return [
        DriftHour(
            hour=row.hour,
            device=row.device or None,
            slot=row.slot or None,
            model=row.model,
            version=row.version,
            manifest=bytes(row.manifest),
            variant=row.variant,
            windows=row.windows,
            sketch=Sketch.FromString(row.sketch),
        )
        for row in connection.execute(wanted)
    ]


def expire(connection: Connection, before_hour: int) -> int:
    """Drop the account of earlier hours; returns how many rows."""
    return connection.execute(delete(hours).where(c.hour < before_hour)).rowcount


def _conditions(stretch: Stretch) -> Iterator[ColumnElement[bool]]:
    yield c.device == (stretch.device or "")
    yield c.hour >= stretch.first_hour
    yield c.hour <= stretch.last_hour
    if stretch.model is not None:
        yield c.model == stretch.model
