"""The history of telemetry in SQL: a row for each interval, the bytes as the device told it.

There may be a row a second of each of thousands of devices: what nothing is asked by is not spread over columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    select,
    tuple_,
)

from cloud.fleet.entities import IntervalPlace, IntervalsAsked
from cloud.fleet.rules import MAX_INTEGER
from cloud.foundation.arriving import Arrived
from cloud.foundation.database import metadata
from protos.v1.uplink_pb2 import Telemetry

intervals = Table(
    "device_telemetry_history",
    metadata,
    Column("stream", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("device", String(63), nullable=False),
    Column("measured_ms", BigInteger, nullable=False),  # by the device's clock
    Column("received_ms", BigInteger, nullable=False),
    Column("told", LargeBinary, nullable=False),  # littoral.v1.Telemetry
    PrimaryKeyConstraint("stream", "seq"),
    Index("telemetry_by_device", "device", "measured_ms", "stream", "seq"),
    Index("telemetry_by_receipt", "received_ms"),
    sqlite_with_rowid=False,
)

_PLACE = (intervals.c.measured_ms, intervals.c.stream, intervals.c.seq)


def add(connection: Connection, arrived: Sequence[Arrived[Telemetry]], now_ms: int) -> None:
    """Store intervals, received now."""
    rows = [
        {
            "stream": batch.stream,
            "seq": seq,
            "device": batch.device,
            "measured_ms": min(told.measured_ms, MAX_INTEGER),
            "received_ms": now_ms,
            "told": told.SerializeToString(),
        }
        for batch in arrived
        for seq, told in enumerate(batch.rows, batch.first_seq)
    ]
    connection.execute(insert(intervals), rows)


def page(
    connection: Connection, asked: IntervalsAsked, after: IntervalPlace | None, limit: int
) -> list[tuple[IntervalPlace, Telemetry, int]]:
    """Intervals of a device by when they were measured, newest first: place, what was told, when it came."""
    i = intervals.c
    wanted = select(*_PLACE, i.told, i.received_ms).where(i.device == asked.device)
    if asked.from_ms is not None:
        wanted = wanted.where(i.measured_ms >= asked.from_ms)
    if asked.to_ms is not None:
        wanted = wanted.where(i.measured_ms < asked.to_ms)
    if after is not None:
        wanted = wanted.where(tuple_(*_PLACE) < (after.measured_ms, after.stream, after.seq))
    rows = connection.execute(wanted.order_by(*(column.desc() for column in _PLACE)).limit(limit))
    return [
        (IntervalPlace(row.measured_ms, row.stream, row.seq), Telemetry.FromString(row.told), row.received_ms)
        for row in rows
    ]
