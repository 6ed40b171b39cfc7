"""Quarantine in SQL: batches that could not be stored, as they came, under the numbers that were new."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select, update

from cloud.uplink.entities import Aside, Placement, Quarantined, ReceivedBatch
from cloud.uplink.inserting import insert_new
from cloud.uplink.tables import quarantine, streams
from protos.kit.kinds import Kind

q = quarantine.c
_NAMES = ("stream", "first_seq", "count", "reason", "payload", "received_ms", "skip")
_SHOWN = [q.id, streams.c.device, streams.c.kind, streams.c.epoch, q.first_seq, q["count"], q.reason]


def set_aside(connection: Connection, batch: ReceivedBatch, placed: Placement, now_ms: int) -> None:
    """Keep a batch's bytes under the numbers that are new. The same batch again changes nothing."""
    first_seq, count = str(batch.first_seq + placed.skip), batch.count - placed.skip
    row = (batch.stream, first_seq, count, placed.reason, batch.payload, now_ms, placed.skip)
    insert_new(connection, quarantine, _NAMES, [row])


def page(
    connection: Connection, limit: int, before: int | None = None, device: str | None = None, kind: Kind | None = None
) -> list[Quarantined]:
    """At most `limit` batches, newest first: those set aside before the one of the number `before`."""
    wanted = select(*_SHOWN, func.length(q.payload), q.received_ms).join_from(quarantine, streams)
    if before is not None:
        wanted = wanted.where(q.id < before)
    if device is not None:
        wanted = wanted.where(streams.c.device == device)
    if kind is not None:
        wanted = wanted.where(streams.c.kind == kind)
    return [
        Quarantined(number, of, Kind(what), epoch, int(first_seq), *rest)
        for number, of, what, epoch, first_seq, *rest in connection.execute(wanted.order_by(q.id.desc()).limit(limit))
    ]


def find(connection: Connection, number: int) -> Aside | None:
    """A batch with its bytes; None: there is none of this number."""
    wanted = select(
        q.id, q.stream, streams.c.device, streams.c.kind, q.first_seq, q["count"], q.skip, q.payload, q.received_ms
    )
    row = connection.execute(wanted.join_from(quarantine, streams).where(q.id == number)).one_or_none()
    if row is None:
        return None
    number, stream, device, kind, first_seq, count, skip, payload, received_ms = row
    return Aside(number, stream, device, Kind(kind), int(first_seq), count, skip, bytes(payload), received_ms)


def remove(connection: Connection, number: int) -> bool:
    """Remove a batch; False: it was not there any more."""
    return connection.execute(delete(quarantine).where(q.id == number)).rowcount > 0


def say(connection: Connection, number: int, reason: str) -> bool:
    """Let this be the reason why it is here; False: it was not there any more."""
    return connection.execute(update(quarantine).where(q.id == number).values(reason=reason)).rowcount > 0


def expire(connection: Connection, before_ms: int) -> int:
    """Drop what was set aside before this time; returns how many batches."""
    return connection.execute(delete(quarantine).where(q.received_ms < before_ms)).rowcount
