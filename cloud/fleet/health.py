"""How devices and their machines are: SQL of a table of its own, with the newest telemetry's row for each device."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Connection, Float, ForeignKey, Table, select

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
    Column("slots", JSON, nullable=False, server_default="[]"),
)


def get(connection: Connection, device: str) -> DeviceHealth | None:
    """The newest one."""
    row = connection.execute(select(health).where(health.c.device == device)).one_or_none()
    if row is None:
        return None
    values = row._asdict()
    del values["device"]
    slots = tuple(SlotHealth(**slot) for slot in row.slots)
    return DeviceHealth(**values | {"latency_counts": tuple(row.latency_counts), "slots": slots})
