"""Consumers and their positions, in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, and_, delete, func, literal, select, update

from cloud.uplink.consuming import Consumer, Lag, Returned
from cloud.uplink.inserting import insert, insert_new
from cloud.uplink.questions import Row
from cloud.uplink.store_queries import ROW
from cloud.uplink.summing import total
from cloud.uplink.tables import OF_RESULTS, consumers, positions, results, returns, streams

_FORWARD = (
    "ON CONFLICT (consumer, stream) DO UPDATE SET seq = excluded.seq, acknowledged_ms = excluded.acknowledged_ms "
    "WHERE excluded.seq > consumer_positions.seq"
)
_seq = func.coalesce(positions.c.seq, 0)


def create(connection: Connection, name: str, now_ms: int) -> bool:
    """Whether the consumer is new, and is there now."""
    there = connection.execute(select(consumers.c.name).where(consumers.c.name == name)).one_or_none()
    insert_new(connection, consumers, ("name", "created_ms"), [(name, now_ms)])
    return there is None


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a consumer of this name."""
    return connection.execute(select(consumers.c.name).where(consumers.c.name == name)).one_or_none() is not None


def hold(connection: Connection, name: str) -> bool:
    """Whether there is a consumer of this name; if so nobody forgets it until the transaction ends."""
    wanted = select(consumers.c.name).where(consumers.c.name == name).with_for_update(read=True)
    return connection.execute(wanted).one_or_none() is not None


def pass_all(connection: Connection, name: str, now_ms: int) -> None:
    """Put a new consumer behind everything that is stored."""
    now = select(literal(name), streams.c.id, streams.c.watermark, literal(now_ms))
    now = now.where(streams.c.watermark > 0, OF_RESULTS)
    connection.execute(positions.insert().from_select(list(positions.c), now))


def remove(connection: Connection, name: str) -> None:
    """Forget a consumer and its positions."""
    # The consumer goes first: this waits for whoever moves its positions now, so that none is left for its successor.
    connection.execute(delete(consumers).where(consumers.c.name == name))
    connection.execute(delete(positions).where(positions.c.consumer == name))
    connection.execute(delete(returns).where(returns.c.consumer == name))


def every(connection: Connection) -> list[Consumer]:
    """All consumers, by name."""
    back = select(total(returns.c.last_seq - returns.c.seq)).where(returns.c.consumer == consumers.c.name)
    behind = total(streams.c.watermark - _seq) + back.scalar_subquery()
    here = and_(positions.c.consumer == consumers.c.name, positions.c.stream == streams.c.id)
    wanted = (
        select(consumers.c.name, consumers.c.created_ms, behind)
        .select_from(consumers.outerjoin(streams, OF_RESULTS).outerjoin(positions, here))
        .group_by(consumers.c.name, consumers.c.created_ms)
        .order_by(consumers.c.name)
    )
    return [Consumer(name, created_ms, int(count)) for name, created_ms, count in connection.execute(wanted)]


def lagging(connection: Connection, name: str, limit: int) -> list[Lag]:
    """Streams that have more for a consumer; those first that it has not read for longest."""
    here = and_(positions.c.consumer == name, positions.c.stream == streams.c.id)
    wanted = (
        select(streams.c.id, _seq, streams.c.watermark)
        .outerjoin_from(streams, positions, here)
        .where(streams.c.watermark > _seq, OF_RESULTS)
        .order_by(func.coalesce(positions.c.acknowledged_ms, 0), streams.c.id)
        .limit(limit)
    )
    return [Lag(*row) for row in connection.execute(wanted)]


def behind(connection: Connection, lag: Lag, limit: int) -> list[Row]:
    """The stream's next results, in its order."""
    r = results.c
    wanted = select(*ROW).where(r.stream == lag.stream, r.seq > lag.seq, r.seq <= lag.watermark)
    return [Row(*row) for row in connection.execute(wanted.order_by(r.seq).limit(limit))]


def give_back(connection: Connection, stream: int, first_seq: int, last_seq: int) -> None:
    """Hand results that are stored late to every consumer that there is, whether it has passed their numbers or not.

    One that has not may be reading just now, and will acknowledge what it read before they were there.
    """
    new = select(consumers.c.name, literal(stream), literal(first_seq), literal(first_seq - 1), literal(last_seq))
    connection.execute(returns.insert().from_select(list(returns.c), new))


def returned(connection: Connection, name: str, limit: int) -> list[Returned]:
    """What was stored late and the consumer has not had, in the order of its numbers."""
    t = returns.c
    wanted = select(t.stream, t.first_seq, t.seq, t.last_seq).where(t.consumer == name)
    return [Returned(*row) for row in connection.execute(wanted.order_by(t.stream, t.first_seq).limit(limit))]


def move_returned(connection: Connection, name: str, to: Mapping[tuple[int, int], int]) -> None:
    """Go on behind these numbers of what was stored late, never back; what is done is forgotten."""
    t = returns.c
    for (stream, first_seq), seq in sorted(to.items()):
        one = (t.consumer == name) & (t.stream == stream) & (t.first_seq == first_seq)
        connection.execute(update(returns).where(one, t.seq < seq).values(seq=seq))
        connection.execute(delete(returns).where(one, t.seq >= t.last_seq))


def watermarks(connection: Connection, ids: Iterable[int]) -> dict[int, int]:
    """How far these streams have come, as far as they are of results."""
    wanted = select(streams.c.id, streams.c.watermark).where(streams.c.id.in_(list(ids)), OF_RESULTS)
    return {row.id: row.watermark for row in connection.execute(wanted)}


def move(connection: Connection, name: str, to: Mapping[int, int], now_ms: int) -> None:
    """Move a consumer's positions, never back. Always in the same order: no two wait in a ring."""
    rows = [(name, stream, seq, now_ms) for stream, seq in sorted(to.items())]
    insert(connection, positions, positions.c.keys(), rows, _FORWARD)
