"""What devices want a person to look at: SQL of a table of its own, with a row only for a device that has an alarm."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import JSON, Column, Connection, ForeignKey, Table, delete, insert, select

from cloud.fleet.entities import Device
from cloud.fleet.store import devices
from cloud.foundation.database import metadata

alarms = Table(
    "device_alarms",
    metadata,
    Column("device", ForeignKey(devices.c.id, ondelete="CASCADE"), primary_key=True),
    Column("texts", JSON, nullable=False),
)


def put(connection: Connection, device: str, texts: Sequence[str]) -> None:
    """Replace the alarms of a device."""
    if list(texts) == list(_of(connection, [device]).get(device, [])):
        return
    connection.execute(delete(alarms).where(alarms.c.device == device))
    if texts:
        connection.execute(insert(alarms).values(device=device, texts=list(texts)))


def with_alarms(connection: Connection, found: Sequence[Device]) -> list[Device]:
    """The devices with their alarms."""
    known = _of(connection, None if len(found) > 1 else [device.id for device in found])
    return [replace(device, alarms=tuple(known.get(device.id, ()))) for device in found]


def _of(connection: Connection, only: Collection[str] | None) -> Mapping[str, Sequence[str]]:
    wanted = select(alarms) if only is None else select(alarms).where(alarms.c.device.in_(only))
    return {row.device: row.texts for row in connection.execute(wanted)}
