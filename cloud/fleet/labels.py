"""The labels of devices, with those of their nodes beside them: SQL over the tables of both."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, and_, or_, select

from cloud.fleet.entities import Labels
from cloud.fleet.nodes import nodes
from cloud.fleet.store import devices, slots


def since(connection: Connection, since_ms: int, slot: str) -> list[Labels]:
    """Of devices with this slot that are new, or have new labels or slots, since then."""
    has_slot = and_(slots.c.device == devices.c.id, slots.c.slot == slot)
    news = or_(devices.c.labelled_ms >= since_ms, nodes.c.labelled_ms >= since_ms)
    wanted = _labels().join(slots, has_slot).where(news, devices.c.public_key != b"")
    return [Labels(*row) for row in connection.execute(wanted.order_by(devices.c.id))]


def every(connection: Connection) -> list[Labels]:
    """Of every device."""
    return [Labels(*row) for row in connection.execute(_labels())]


def _labels() -> Select[Any]:
    wanted = select(devices.c.id, devices.c.labels, nodes.c.labels)
    return wanted.join_from(devices, nodes, nodes.c.device == devices.c.id, isouter=True)
