"""Results into PostgreSQL and out of it: rows by binary `COPY`, a partition for each day, dropped whole by retention.

A partition is made beside the table and then attached, which waits for nobody who writes; only dropping one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from sqlalchemy import Connection

from cloud.uplink.copying import HEADER, TRAILER, RowFormat, runs
from cloud.uplink.entities import DAY_MS, Block, StreamState
from cloud.uplink.tables import results

DROP_WAIT_S = 2
"""Who reads for longer holds up the drop until next time, and the drop no writer for longer."""

_SMALL = {"INTEGER": "i4", "BIGINT": "i8", "REAL": "f4"}
ROWS = RowFormat({column.name: _SMALL[str(column.type)] for column in results.c})
COPY = sql.SQL("COPY results ({}) FROM STDIN (FORMAT BINARY)").format(
    sql.SQL(", ").join(sql.Identifier(column.name) for column in results.c)
)
_LOCK = "SELECT id, watermark, skipped, set_aside FROM streams WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
_MOVE = """
UPDATE streams SET watermark = new.watermark, skipped = new.skipped, set_aside = new.set_aside
FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bigint[]) AS new (id, watermark, skipped, set_aside)
WHERE streams.id = new.id
"""
_EXPIRY_LOCK = 0x65787069727920
_ALONE = f"SELECT pg_try_advisory_xact_lock({_EXPIRY_LOCK})"
_COUNT = "SELECT stream, count(*) FROM {day} GROUP BY stream"
_FORGET = "DELETE FROM truths USING {day} WHERE truths.source = {day}.source AND truths.frame = {day}.frame"
_EXPIRE = """
UPDATE streams SET expired = expired + gone.rows
FROM unnest(%s::int[], %s::bigint[]) AS gone (id, rows) WHERE streams.id = gone.id
"""
_DAYS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass('results')
ORDER BY 1
"""


def lock(connection: Connection, ids: Iterable[int]) -> dict[int, StreamState]:
    """The streams' states, which no other transaction changes until this one ends; always locked in the same order."""
    rows = _driver(connection).execute(_LOCK, (sorted(set(ids)),))
    return {stream: StreamState(*state) for stream, *state in rows}


def write(connection: Connection, blocks: Sequence[Block], moved: Mapping[int, StreamState], now_ms: int) -> None:
    """Add the rows and move the streams."""
    driver = _driver(connection)
    if blocks:
        with driver.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.write(b"".join((HEADER, packed(blocks, now_ms), TRAILER)))
    if moved:
        columns = zip(*(astuple(state) for state in moved.values()), strict=True)
        driver.execute(_MOVE, (list(moved), *map(list, columns)))


def packed(blocks: Sequence[Block], now_ms: int) -> memoryview:
    """The blocks' rows as COPY wants them."""
    read = [block.results for block in blocks]
    counts = np.array([len(one) for one in read])
    columns: dict[str, NDArray[Any] | int] = {
        "stream": np.repeat([block.stream for block in blocks], counts),
        "seq": runs([block.first_seq for block in blocks], counts),
        "source": np.repeat([block.source for block in blocks], counts),
        "frame": np.concatenate([one.frame for one in read]),
        "version": np.repeat([block.version for block in blocks], counts),
        "label": np.concatenate([one.label for one in read]),
        "confidence": np.concatenate([one.confidence for one in read]),
        "latency_us": np.concatenate([one.latency_us for one in read]),
        "captured_us": np.concatenate([one.captured_us for one in read]),
        "received_ms": now_ms,
    }
    return ROWS.pack(columns, int(counts.sum()))


def make_days(connection: Connection, days: Iterable[int]) -> None:
    """Make the partitions of some days that are missing. The transaction must be the only one that does."""
    driver = _driver(connection)
    there = {name for (name,) in driver.execute(_DAYS)}
    for day in days:
        if (name := _partition(day)) not in there:
            names = {"name": sql.Identifier(name), "key": sql.Identifier(f"{name}_key")}
            bounds = {"first": sql.Literal(day * DAY_MS), "end": sql.Literal((day + 1) * DAY_MS)}
            for statement in (
                "CREATE TABLE {name} (LIKE results INCLUDING DEFAULTS)",
                "CREATE UNIQUE INDEX {key} ON {name} (stream, seq)",
                "ALTER TABLE results ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({end})",
            ):
                driver.execute(sql.SQL(statement).format(**names, **bounds))


def expire(connection: Connection, before_day: int) -> int:
    """Drop the oldest day before `before_day`, and its truths; returns its number of results.

    0: there is none, or another process is at it.
    """
    driver = _driver(connection)
    if not driver.execute(_ALONE).fetchall()[0][0]:
        return 0
    for (name,) in driver.execute(_DAYS).fetchall():
        if name < _partition(before_day) and (gone := _drop(driver, name)):
            return gone
    return 0


def _drop(driver: psycopg.Connection[tuple[Any, ...]], name: str) -> int:
    """Drop one partition. What takes long comes first: from the lock of the streams on, their devices wait."""
    day = sql.Identifier(name)
    counted = driver.execute(sql.SQL(_COUNT).format(day=day)).fetchall()
    driver.execute(sql.SQL(_FORGET).format(day=day))
    driver.execute(f"SET LOCAL lock_timeout = '{DROP_WAIT_S}s'")
    going = [stream for stream, _ in counted]
    driver.execute(_LOCK, (going,))
    driver.execute(_EXPIRE, (going, [rows for _, rows in counted]))
    driver.execute(sql.SQL("DROP TABLE {day}").format(day=day))
    return sum(rows for _, rows in counted)


def _partition(day: int) -> str:
    return f"results_{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y%m%d}"


def _driver(connection: Connection) -> psycopg.Connection[tuple[Any, ...]]:
    """The driver's own connection: SQLAlchemy knows no COPY. It is inside the transaction that SQLAlchemy began."""
    return cast("psycopg.Connection[tuple[Any, ...]]", connection.connection.driver_connection)
