"""Results into SQLite and out of it: rows by `executemany`, retention in slices of one stream at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import repeat, takewhile

from sqlalchemy import Connection, bindparam, delete, select, update

from cloud.uplink.entities import DAY_MS, Block, StreamState
from cloud.uplink.inserting import Row, insert
from cloud.uplink.tables import OF_RESULTS, results, streams, truths

SLICE = 5_000


def lock(connection: Connection, ids: Iterable[int]) -> dict[int, StreamState]:
    """The streams' states; the transaction has the one write lock already."""
    s = streams.c
    wanted = select(s.id, s.watermark, s.skipped, s.set_aside).where(s.id.in_(sorted(set(ids))))
    return {stream: StreamState(*state) for stream, *state in connection.execute(wanted)}


def write(connection: Connection, blocks: Sequence[Block], moved: Mapping[int, StreamState], now_ms: int) -> None:
    """Add the rows and move the streams."""
    made = [row for block in blocks for row in rows(block, now_ms)]
    if made:
        insert(connection, results, results.c.keys(), made)
    if moved:
        change = update(streams).where(streams.c.id == bindparam("stream"))
        connection.execute(change, [{"stream": stream, **asdict(state)} for stream, state in moved.items()])


def make_days(connection: Connection, days: Iterable[int]) -> None:
    """Nothing: this database has no partitions."""


def expire(connection: Connection, before_day: int) -> int:
    """Drop one slice of the results received before a day, and their truths; returns how many, 0: there are no more.

    Only a stream's oldest results are looked at: it receives them in the order of their numbers.
    """
    before_ms = before_day * DAY_MS
    for stream in connection.execute(select(streams.c.id).where(OF_RESULTS)).scalars():
        oldest = select(results.c.seq, results.c.source, results.c.frame, results.c.received_ms)
        oldest = oldest.where(results.c.stream == stream).order_by(results.c.seq).limit(SLICE)
        going = list(takewhile(lambda row: row.received_ms < before_ms, connection.execute(oldest)))
        if going:
            _drop(connection, stream, [(row.seq, row.source, row.frame) for row in going])
            return len(going)
    return 0


def _drop(connection: Connection, stream: int, going: Sequence[tuple[int, int, int]]) -> None:
    same_frame = (truths.c.source == bindparam("of_source")) & (truths.c.frame == bindparam("of_frame"))
    frames = [{"of_source": source, "of_frame": frame} for _, source, frame in going]
    connection.execute(delete(truths).where(same_frame), frames)
    last = going[-1][0]
    connection.execute(delete(results).where(results.c.stream == stream, results.c.seq <= last))
    counted = update(streams).where(streams.c.id == stream).values(expired=streams.c.expired + len(going))
    connection.execute(counted)


def rows(block: Block, now_ms: int) -> Iterable[Row]:
    """The rows of a block, as `results` has its columns."""
    read = block.results
    return zip(
        repeat(block.stream),
        range(block.first_seq, block.first_seq + len(read)),
        repeat(block.source),
        read.frame.tolist(),
        repeat(block.version),
        read.label.tolist(),
        read.confidence.tolist(),
        read.latency_us.tolist(),
        read.captured_us.tolist(),
        repeat(now_ms),
    )
