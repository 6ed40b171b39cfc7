"""Consumers of results: each reads everything at least once, and goes on where it last acknowledged. Synchronous."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloud.foundation.database import Database, Transaction
from cloud.uplink import consuming, store_consumers, store_queries
from cloud.uplink.consuming import MAX_STREAMS, Consumer, Lag, Reading, Returned, Start, UnknownConsumer
from cloud.uplink.questions import MAX_PAGE, InvalidQuestion, Row
from cloud.uplink.sampled import SamplesOf, no_samples
from protos.topics import NAME, checked_name


class Consumers:
    """May be called from any thread, and in any number of processes at once."""

    def __init__(self, database: Database, samples_of: SamplesOf = no_samples) -> None:
        self._database = database
        self._samples_of = samples_of

    def create(self, name: str, start: Start, now_ms: int) -> None:
        """Begin a consumer; one that is there stays where it is. Raises InvalidQuestion."""
        try:
            checked_name(name, "consumer")
        except ValueError as error:
            raise InvalidQuestion(str(error)) from error
        with self._database.transaction() as connection:
            if store_consumers.create(connection, name, now_ms) and start is Start.LATEST:
                store_consumers.pass_all(connection, name, now_ms)

    def remove(self, name: str) -> None:
        """Forget a consumer. Raises UnknownConsumer."""
        with self._database.transaction() as connection:
            _check(connection, name)
            store_consumers.remove(connection, name)

    def every(self) -> list[Consumer]:
        """All consumers, with how far they are behind."""
        with self._database.reading() as connection:
            return store_consumers.every(connection)

    def read(self, name: str, limit: int) -> Reading | None:
        """What follows the consumer's positions, some of it; None: nothing now. The same again until acknowledged.

        A reading may be without results, where what it passes over was dropped; it is to be acknowledged, too.
        Raises UnknownConsumer, InvalidQuestion.
        """
        if not 0 < limit <= MAX_PAGE:
            raise InvalidQuestion(f"limit {limit}: a reading has 1 to {MAX_PAGE} results")
        with self._database.reading() as connection, store_queries.bounded(connection):
            _check(connection, name)
            if returned := store_consumers.returned(connection, name, min(limit, MAX_STREAMS)):
                return self._read_returned(connection, returned, limit)
            lagging = store_consumers.lagging(connection, name, min(limit, MAX_STREAMS))
            if not lagging:
                return None
            rows, to = _read(connection, lagging, limit)
            found = store_queries.named(connection, rows, self._samples_of)
            positions = {lag.stream: seq for lag, seq in zip(lagging, to, strict=True)}
            return Reading(found, consuming.as_word(positions))

    def acknowledge(self, name: str, ack: str, now_ms: int) -> None:
        """Move the consumer behind a reading; the same again, or an older one, changes nothing.

        Raises UnknownConsumer, InvalidQuestion.
        """
        returned = consuming.returned_from_word(ack)
        positions = {} if returned else consuming.from_word(ack)
        with self._database.beside() as connection:
            _check(connection, name, store_consumers.hold)
            if returned:
                store_consumers.move_returned(connection, name, returned)
                return
            there = store_consumers.watermarks(connection, positions)
            if wrong := [stream for stream, seq in positions.items() if seq > there.get(stream, -1)]:
                raise InvalidQuestion(f"this acknowledges what was never handed out, of stream {wrong[0]}")
            store_consumers.move(connection, name, positions, now_ms)

    def _read_returned(self, connection: Transaction, returned: Sequence[Returned], limit: int) -> Reading:
        rows, to = _read(connection, [one.lag for one in returned], limit)
        ends = {(one.stream, one.first_seq): seq for one, seq in zip(returned, to, strict=True)}
        found = store_queries.named(connection, rows, self._samples_of)
        return Reading(found, consuming.as_word_of_returned(ends))


def _read(connection: Transaction, lagging: Sequence[Lag], limit: int) -> tuple[list[Row], list[int]]:
    """At most `limit` results in all, and how far that comes in each."""
    rows: list[Row] = []
    to = []
    for lag, share in zip(lagging, consuming.shares(limit, len(lagging)), strict=True):
        more = store_consumers.behind(connection, lag, share)
        to.append(consuming.read_to(lag, [row.seq for row in more], share))
        rows += more
    return rows, to


def _check(
    connection: Transaction, name: str, exists: Callable[[Transaction, str], bool] = store_consumers.exists
) -> None:
    if not NAME.fullmatch(name) or not exists(connection, name):
        raise UnknownConsumer(f"there is no consumer {name[:64]!r}: create it first")
