"""The account of results by minute, in SQL: added to with each commit, asked by dashboards, dropped by retention."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select

from cloud.uplink.adding import add
from cloud.uplink.aggregates import MINUTE_MS, Added
from cloud.uplink.entities import DAY_MS
from cloud.uplink.tables import result_minute_labels, result_minutes


def keep(connection: Connection, new: Added) -> None:
    """Add what new results add, in the transaction that stores them."""
    add(connection, result_minutes, new.minutes)
    add(connection, result_minute_labels, new.labels)


def expire(connection: Connection, before_minute: int) -> int:
    """Drop the oldest day of minutes before `before_minute`; returns how many rows, 0: there are none."""
    oldest = connection.execute(select(func.min(result_minutes.c.minute))).scalar_one()
    if oldest is None:
        return 0
    end = min(before_minute, oldest + DAY_MS // MINUTE_MS)
    return sum(
        connection.execute(delete(table).where(table.c.minute < end)).rowcount
        for table in (result_minutes, result_minute_labels)
    )
