"""The SQL of events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Row,
    SmallInteger,
    String,
    Table,
    or_,
    select,
    tuple_,
)

from cloud.events.entities import Event, Kept, Order, Severity, Which
from cloud.foundation.arriving import Arrived
from cloud.foundation.database import metadata
from cloud.uplink.inserting import insert
from cloud.uplink.questions import Place

events = Table(
    "events",
    metadata,
    Column("stream", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("device", String(63), nullable=False),
    Column("happened_ms", BigInteger, nullable=False),  # by the device's clock
    Column("received_ms", BigInteger, nullable=False),
    Column("kind", String(63), nullable=False),
    Column("severity", SmallInteger, nullable=False),
    Column("slot", String(63), nullable=False),
    Column("model", String(63), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("text", String, nullable=False),
    Column("times", BigInteger, nullable=False),
    PrimaryKeyConstraint("stream", "seq"),
    Index("events_by_time", "received_ms", "stream", "seq"),
    Index("events_by_device", "device", "received_ms", "stream", "seq"),
    sqlite_with_rowid=False,
)

_PLACE = (events.c.received_ms, events.c.stream, events.c.seq)


def add(connection: Connection, arrived: Sequence[Arrived[Event]], now_ms: int) -> None:
    """Store events, received now."""
    rows = [
        (batch.stream, seq, batch.device, event.happened_ms, now_ms, event.kind, int(event.severity), event.slot,
         event.model, event.version, event.text, event.times)
        for batch in arrived
        for seq, event in enumerate(batch.rows, batch.first_seq)
    ]  # fmt: skip
    insert(connection, events, events.c.keys(), rows)


def page(connection: Connection, which: Which, after: Place | None, limit: int, order: Order) -> list[Kept]:
    """At most `limit` events behind `after`, in this order."""
    wanted = select(events).where(*_conditions(which)).limit(limit)
    if order is Order.NEWEST:
        wanted = wanted.order_by(*(column.desc() for column in _PLACE))
    else:
        wanted = wanted.order_by(*_PLACE)
    if after is not None:
        key, place = tuple_(*_PLACE), (after.received_ms, after.stream, after.seq)
        wanted = wanted.where(key < place if order is Order.NEWEST else key > place)
    return [_kept(row) for row in connection.execute(wanted)]


def _conditions(which: Which) -> Iterator[ColumnElement[bool]]:
    e = events.c
    if which.device is not None:
        yield e.device == which.device
    if which.kind is not None:
        yield or_(e.kind == which.kind, e.kind.startswith(f"{which.kind}.", autoescape=True))
    if which.severity is not None:
        yield e.severity >= which.severity
    if which.from_ms is not None:
        yield e.received_ms >= which.from_ms
    if which.to_ms is not None:
        yield e.received_ms < which.to_ms


def _kept(row: Row[Any]) -> Kept:
    event = Event(
        row.happened_ms, row.kind, Severity(row.severity), row.slot, row.model, row.version, row.text, row.times
    )
    return Kept(row.device, Place(row.received_ms, row.stream, row.seq), event)
