"""How devices and their machines are: SQL of tables of its own, with the newest telemetry's row for each device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import JSON, BigInteger, Column, Connection, Float, ForeignKey, Table, select

from cloud.fleet import newest
from cloud.fleet.entities import DeviceHealth, SlotHealth
from cloud.fleet.store import devices
from cloud.foundation.database import metadata

health = Table(
    "device_health",
    metadata,
    Column("device", ForeignKey(devices.c.id, ondelete="CASCADE"), primary_key=True),
    Column("measured_ms", BigInteger, nullable=False),
    Column("processor", Float, nullable=False),
    Column("memory", BigInteger, nullable=False),
    Column("memory_available", BigInteger, nullable=False),
    Column("disk", BigInteger, nullable=False),
    Column("disk_free", BigInteger, nullable=False),
    Column("temperature_c", Float),
    Column("queued_frames", BigInteger, nullable=False),
    Column("frames_dropped", BigInteger, nullable=False),
    Column("model_crashes", BigInteger, nullable=False),
    Column("uptime_ms", BigInteger, nullable=False),
    Column("latency_counts", JSON, nullable=False),
)


slots = Table(
    "device_slots_health",
    metadata,
    Column("device", ForeignKey(devices.c.id, ondelete="CASCADE"), primary_key=True),
    Column("slots", JSON, nullable=False),
)


def put(connection: Connection, told: Mapping[str, DeviceHealth]) -> None:
    """Write the newest of several devices that have reported."""
    rows = [{"device": device, **asdict(one)} for device, one in told.items()]
    newest.write(connection, slots, [{"device": row["device"], "slots": row.pop("slots")} for row in rows])
    newest.write(connection, health, rows)


def get(connection: Connection, device: str) -> DeviceHealth | None:
    """The newest one."""
    both = health.outerjoin(slots, slots.c.device == health.c.device)
    row = connection.execute(select(health, slots.c.slots).select_from(both).where(health.c.device == device)).first()
    if row is None:
        return None
    values = row._asdict()
    del values["device"]
    values["latency_counts"] = tuple(row.latency_counts)
    values["slots"] = tuple(SlotHealth(**slot) for slot in row.slots or ())
    return DeviceHealth(**values)
