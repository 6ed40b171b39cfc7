"""Consumers read every result at least once, whoever writes beside them and however often they are killed."""

from __future__ import annotations

import asyncio
import base64
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cloud_uplink_service import NOW_MS, batch, known, payload

from cloud.foundation.database import Database
from cloud.uplink import store_consumers
from cloud.uplink.consumers import Consumers
from cloud.uplink.consuming import Lag, Start, UnknownConsumer, as_word, from_word, read_to, shares
from cloud.uplink.entities import DAY_MS
from cloud.uplink.questions import MAX_PAGE, Found, InvalidQuestion
from cloud.uplink.service import Ingest
from simulators.postgresql import Cluster
from tests.waiting import blocked, eventually

Key = tuple[str, int]
WRITERS = 3
DEVICES = 4
BATCHES = 12
ROWS = 5


@pytest.fixture
def ingest(database: Database) -> Ingest:
    return Ingest(database, known)


@pytest.fixture
def consumers(database: Database) -> Consumers:
    return Consumers(database)


def store(ingest: Ingest, first: int, count: int, device: str = "edge-1", now_ms: int = NOW_MS) -> None:
    opened = ingest.open(device, 7)
    ingest.commit([batch(opened, first, payload(first, [1] * count), count, device=device)], now_ms)


def keys(results: list[Found]) -> list[Key]:
    return [(one.device, one.seq) for one in results]


def rest(consumers: Consumers, name: str, limit: int = 1000) -> list[Key]:
    """All that follows, read and acknowledged."""
    found: list[Key] = []
    while reading := consumers.read(name, limit):
        found += keys(list(reading.results))
        consumers.acknowledge(name, reading.ack, NOW_MS)
    return found


def test_a_new_consumer_reads_what_is_kept_or_only_what_comes(ingest: Ingest, consumers: Consumers) -> None:
    store(ingest, 1, 2)
    consumers.create("all", Start.EARLIEST, NOW_MS)
    consumers.create("new", Start.LATEST, NOW_MS)
    store(ingest, 3, 1)
    store(ingest, 1, 1, "edge-2")
    assert rest(consumers, "all") == [("edge-1", 1), ("edge-1", 2), ("edge-1", 3), ("edge-2", 1)]
    assert sorted(rest(consumers, "new")) == [("edge-1", 3), ("edge-2", 1)]


def test_what_is_not_acknowledged_comes_again(ingest: Ingest, consumers: Consumers) -> None:
    store(ingest, 1, 3)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    first = consumers.read("billing", 2)
    assert first == consumers.read("billing", 2)
    assert first is not None
    consumers.acknowledge("billing", first.ack, NOW_MS)
    assert rest(consumers, "billing") == [("edge-1", 3)]
    assert consumers.read("billing", 2) is None


def test_an_old_acknowledgement_moves_nobody_back(ingest: Ingest, consumers: Consumers) -> None:
    store(ingest, 1, 3)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    first = consumers.read("billing", 2)
    assert first is not None
    assert len(rest(consumers, "billing")) == 3
    consumers.acknowledge("billing", first.ack, NOW_MS)
    assert consumers.read("billing", 2) is None


def test_creating_a_consumer_again_leaves_it_where_it_is(ingest: Ingest, consumers: Consumers) -> None:
    store(ingest, 1, 3)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    rest(consumers, "billing")
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    assert consumers.read("billing", 2) is None
    store(ingest, 4, 1)
    consumers.create("billing", Start.LATEST, NOW_MS)
    assert rest(consumers, "billing") == [("edge-1", 4)]


def test_consumers_do_not_move_each_other_and_tell_how_far_they_are_behind(
    ingest: Ingest, consumers: Consumers
) -> None:
    assert consumers.every() == []
    store(ingest, 1, 3)
    for name in ("billing", "search"):
        consumers.create(name, Start.EARLIEST, NOW_MS)
    rest(consumers, "billing")
    store(ingest, 4, 2)
    assert [(one.name, one.behind) for one in consumers.every()] == [("billing", 2), ("search", 5)]


def test_a_removed_consumer_is_unknown_and_begins_anew_when_it_is_created_again(
    ingest: Ingest, consumers: Consumers
) -> None:
    store(ingest, 1, 1)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    rest(consumers, "billing")
    consumers.remove("billing")
    for attempt in (
        lambda: consumers.read("billing", 1),
        lambda: consumers.acknowledge("billing", as_word({1: 1}), NOW_MS),
        lambda: consumers.remove("billing"),
    ):
        with pytest.raises(UnknownConsumer, match="billing"):
            attempt()
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    assert rest(consumers, "billing") == [("edge-1", 1)]


def test_a_flood_in_one_stream_lets_the_others_have_their_share(ingest: Ingest, consumers: Consumers) -> None:
    store(ingest, 1, 500)
    for number in range(2, 5):
        store(ingest, 1, 3, f"edge-{number}")
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    reading = consumers.read("billing", 20)
    assert reading is not None
    assert Counter(one.device for one in reading.results) == {"edge-1": 5, "edge-2": 3, "edge-3": 3, "edge-4": 3}


def test_more_streams_than_one_reading_has_room_for_take_turns(ingest: Ingest, consumers: Consumers) -> None:
    for number in range(1, 6):
        store(ingest, 1, 10, f"edge-{number}")
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    seen: set[str] = set()
    for turn in range(3):
        reading = consumers.read("billing", 2)
        assert reading is not None
        seen |= {one.device for one in reading.results}
        consumers.acknowledge("billing", reading.ack, NOW_MS + turn)
    assert len(seen) == 5


def test_results_that_retention_dropped_are_passed_over(ingest: Ingest, consumers: Consumers) -> None:
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    store(ingest, 1, 3)
    store(ingest, 4, 2, now_ms=NOW_MS + 9 * DAY_MS)
    ingest.expire(NOW_MS + 9 * DAY_MS, days=1)
    assert rest(consumers, "billing", 2) == [("edge-1", 4), ("edge-1", 5)]


def test_what_was_set_aside_or_dropped_by_the_device_does_not_hold_a_consumer_up(
    ingest: Ingest, consumers: Consumers
) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([batch(opened, 5, b"?", 2, previous=0)], NOW_MS)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    reading = consumers.read("billing", 2)
    assert reading is not None
    assert not reading.results
    consumers.acknowledge("billing", reading.ack, NOW_MS)
    assert consumers.read("billing", 2) is None


@pytest.mark.parametrize(
    "word",
    [
        *("", "?", "e30=", "WzFd", "W1sxLCJhIl1d", "W1stMSwxXV0=", "é", as_word({1: 2**63}), as_word({2**31: 1})),
        base64.urlsafe_b64encode(b"[" * 12_000).decode(),
    ],
)
def test_an_acknowledgement_that_is_none_is_refused(consumers: Consumers, word: str) -> None:
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    with pytest.raises(InvalidQuestion, match="ack"):
        consumers.acknowledge("billing", word, NOW_MS)


def test_nobody_acknowledges_what_is_still_to_come(ingest: Ingest, consumers: Consumers) -> None:
    store(ingest, 1, 3)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    for positions in ({1: 4}, {99: 0}):
        with pytest.raises(InvalidQuestion, match="never handed out"):
            consumers.acknowledge("billing", as_word(positions), NOW_MS)


@pytest.mark.parametrize("name", ["", "A", "a/b", "x" * 99])
def test_a_consumer_has_a_name(consumers: Consumers, name: str) -> None:
    with pytest.raises(InvalidQuestion, match="consumer"):
        consumers.create(name, Start.EARLIEST, NOW_MS)


def test_a_consumer_that_is_removed_while_it_acknowledges_leaves_its_successor_no_position(postgresql: Cluster) -> None:
    database = Database(postgresql.new_database())
    database.create()
    store(Ingest(database, known), 1, 3)
    consumers = Consumers(database)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    reading = consumers.read("billing", 10)
    assert reading is not None
    with ThreadPoolExecutor(2) as threads:
        with database.beside() as connection:  # another process acknowledges the same, and has not committed
            store_consumers.move(connection, "billing", from_word(reading.ack), NOW_MS)
            acknowledged = threads.submit(consumers.acknowledge, "billing", reading.ack, NOW_MS)
            asyncio.run(eventually(lambda: blocked(database) == 1))
            removed = threads.submit(consumers.remove, "billing")
            asyncio.run(eventually(lambda: blocked(database) == 2 or removed.done()))
        acknowledged.result()
        removed.result()
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    assert rest(consumers, "billing") == [("edge-1", seq) for seq in (1, 2, 3)]
    database.close()


@pytest.mark.parametrize("name", ["nobody", "A", "a\0b"])
def test_whoever_was_not_created_is_unknown(consumers: Consumers, name: str) -> None:
    with pytest.raises(UnknownConsumer, match="create it first"):
        consumers.read(name, 10)
    with pytest.raises(UnknownConsumer, match="create it first"):
        consumers.acknowledge(name, as_word({1: 1}), NOW_MS)
    with pytest.raises(UnknownConsumer, match="create it first"):
        consumers.remove(name)


@pytest.mark.parametrize("limit", [0, MAX_PAGE + 1])
def test_a_reading_has_a_limit(consumers: Consumers, limit: int) -> None:
    with pytest.raises(InvalidQuestion, match="limit"):
        consumers.read("billing", limit)


@given(st.dictionaries(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), min_size=1, max_size=100))
def test_a_word_stands_for_its_positions(positions: dict[int, int]) -> None:
    assert from_word(as_word(positions)) == positions


@given(st.integers(1, 1000), st.integers(1, 100))
def test_shares_make_up_the_limit_and_differ_by_one_at_most(limit: int, streams: int) -> None:
    made = shares(limit, streams)
    assert sum(made) == max(limit, streams)
    assert len(made) == streams
    assert max(made) - min(made) <= 1


def test_a_position_moves_to_the_watermark_only_when_nothing_is_left_below_it() -> None:
    lag = Lag(stream=1, seq=3, watermark=9)
    assert read_to(lag, [4, 6], share=2) == 6
    assert read_to(lag, [4, 6], share=3) == 9
    assert read_to(lag, [], share=3) == 9


def write_some(database: Database, writer: int) -> None:
    """What a replica of the ingest does, with devices of its own."""
    replica = Ingest(database, known)
    for first in range(1, 1 + BATCHES * ROWS, ROWS):
        for device in range(DEVICES):
            store(replica, first, ROWS, f"edge-{writer}-{device}")


def consume(database: Database, written: threading.Event, chance: random.Random) -> list[list[Key]]:
    """Readings until nothing follows; some are lost, and some are not acknowledged, as by a consumer that is killed."""
    readings: list[list[Key]] = []
    while True:
        over = written.is_set()
        consumer = Consumers(database)  # as after a restart: it remembers nothing
        reading = consumer.read("billing", chance.randint(1, 60))
        if reading is None and over:
            return readings
        if reading is not None and chance.random() < 0.7:
            readings.append(keys(list(reading.results)))
            if chance.random() < 0.7:
                consumer.acknowledge("billing", reading.ack, NOW_MS + len(readings))


@pytest.mark.parametrize("seed", range(2))
def test_beside_concurrent_writers_a_consumer_that_is_killed_again_and_again_skips_nothing(
    database: Database, seed: int
) -> None:
    Consumers(database).create("billing", Start.EARLIEST, NOW_MS)
    written = threading.Event()
    with ThreadPoolExecutor(WRITERS + 1) as threads:
        consuming = threads.submit(consume, database, written, random.Random(seed))
        try:
            list(threads.map(write_some, [database] * WRITERS, range(WRITERS)))
        finally:
            written.set()
        readings = consuming.result()
    devices = [f"edge-{writer}-{device}" for writer in range(WRITERS) for device in range(DEVICES)]
    expected = {(device, seq) for device in devices for seq in range(1, 1 + BATCHES * ROWS)}
    assert {key for reading in readings for key in reading} == expected
    for reading in readings:
        for device in devices:
            seqs = [seq for of, seq in reading if of == device]
            assert seqs == list(range(min(seqs, default=0), min(seqs, default=0) + len(seqs)))
