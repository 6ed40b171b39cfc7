"""Retention of rows besides results, in SQL: slices of the oldest, of whichever streams they came over."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, Table, bindparam, delete, select, tuple_, update

from cloud.uplink import store
from cloud.uplink.tables import streams

SLICE = 5_000


def expire(connection: Connection, table: Table, before_ms: int) -> int:
    """Drop one slice of the rows received before then, with an account of it; returns how many, 0: there are no more.

    Another process that is at it waits for this one, and counts only what itself has dropped.
    """
    t = table.c
    oldest = select(t.stream, t.seq).where(t.received_ms < before_ms).order_by(t.received_ms).limit(SLICE)
    going = delete(table).where(tuple_(t.stream, t.seq).in_(oldest)).returning(t.stream)
    gone = Counter(connection.execute(going).scalars())
    if gone:
        store.lock(connection, gone)
        counted = update(streams).where(streams.c.id == bindparam("stream"))
        counted = counted.values(expired=streams.c.expired + bindparam("rows"))
        connection.execute(counted, [{"stream": stream, "rows": rows} for stream, rows in sorted(gone.items())])
    return gone.total()
