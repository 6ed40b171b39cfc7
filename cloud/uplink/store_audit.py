"""The audit's SQL: what devices say of their outboxes, and what there is of each of their streams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import astuple

from sqlalchemy import Connection, Row, Select, Table, func, select

from cloud.uplink.entities import Books, StreamFacts, StreamState
from cloud.uplink.inserting import insert
from cloud.uplink.tables import books, results, sources, streams, versions
from protos.kit.kinds import Kind

_NAMES = ("stream", "last_seq", "before", "dropped", "waiting", "acknowledged", "said_ms")
# One connection's word may arrive after a later one's: in one life of an outbox these three only grow.
_UNLESS_OLDER = f"""
ON CONFLICT (stream) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _NAMES[1:])}
WHERE excluded.last_seq >= stream_books.last_seq AND excluded.dropped >= stream_books.dropped
AND excluded.acknowledged >= stream_books.acknowledged
"""


def note(connection: Connection, said: Mapping[int, Books], now_ms: int) -> None:
    """Keep what devices say of their streams, in place of what they said before."""
    # Always in the same order: two processes that write the same rows never wait for each other in a circle.
    rows = [(stream, *astuple(one), now_ms) for stream, one in sorted(said.items())]
    insert(connection, books, _NAMES, rows, _UNLESS_OLDER)


def facts(connection: Connection, kind: Kind = Kind.RESULTS, table: Table = results) -> dict[str, list[StreamFacts]]:
    """What is known of each device's streams of a kind, in the order in which they began. Reads every row of `table`.

    table: where that kind's rows are, by `stream` and `seq`.
    """
    s, r = streams.c, table.c
    counts = select(
        r.stream,
        func.count().label("rows"),
        func.count(r.seq.distinct()).filter(r.seq <= s.watermark).label("seqs"),
    )
    found = counts.join_from(table, streams, r.stream == s.id).group_by(r.stream).subquery()
    wanted = (
        select(streams, found.c.rows, found.c.seqs, *[books.c[name] for name in _NAMES[1:]])
        .outerjoin_from(streams, found, found.c.stream == s.id)
        .outerjoin(books, books.c.stream == s.id)
        .where(s.kind == kind)
    )
    of_device: dict[str, list[StreamFacts]] = defaultdict(list)
    for row in connection.execute(wanted.order_by(s.device, s.id)):
        of_device[row.device].append(_facts(row))
    return of_device


def copies(connection: Connection) -> dict[str, int]:
    """Rows beyond the first of the same frame by the same model in the same slot, by device."""
    extra = repeated().subquery()
    wanted = select(sources.c.device, func.sum(extra.c.extra)).join_from(sources, extra, extra.c.source == sources.c.id)
    return {device: int(count) for device, count in connection.execute(wanted.group_by(sources.c.device))}


def repeated() -> Select[tuple[int, int]]:
    """By source, rows beyond the first of each frame, model and slot: a source may feed several slots of a device."""
    r = results.c
    of_model = select(r.source, (func.count() - 1).label("extra")).join_from(
        results, versions, versions.c.id == r.version
    )
    return of_model.group_by(r.source, r.frame, versions.c.model, versions.c.slot).having(func.count() > 1)


def _facts(row: Row[tuple[object, ...]]) -> StreamFacts:
    said = None
    if row.said_ms is not None:
        said = Books(row.last_seq, row.before, row.dropped, row.waiting, row.acknowledged)
    return StreamFacts(
        state=StreamState(row.watermark, row.skipped, row.set_aside),
        expired=row.expired,
        rows=row.rows or 0,
        seqs=row.seqs or 0,
        books=said,
        said_ms=row.said_ms,
    )
