"""Results are kept for as many days as are set, and go with their truths; the books still balance."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import inspect, select
from test_cloud_uplink_service import batch, known, payload

from cloud.foundation.database import Database
from cloud.foundation.retention import Kept, Retention
from cloud.uplink import store_sqlite, tables
from cloud.uplink.entities import DAY_MS, Fate
from cloud.uplink.quarantine import Quarantine
from cloud.uplink.service import Ingest
from simulators.postgresql import Cluster
from tests.waiting import blocked, eventually

MIDNIGHT_MS = 20_000 * DAY_MS


@pytest.fixture
def ingest(database: Database) -> Ingest:
    """With a result of each of ten days, its truth, and a truth of a frame that has no result."""
    ingest = Ingest(database, known)
    opened = ingest.open("edge-1", 7)
    ingest.truths("edge-1", "camera", 1, [1] * 11)
    for day in range(10):
        ingest.commit([batch(opened, day + 1, payload(day + 1, [1]), 1)], MIDNIGHT_MS + day * DAY_MS)
    return ingest


def kept(database: Database) -> list[int]:
    with database.reading() as connection:
        return list(connection.execute(select(tables.results.c.seq).order_by("seq")).scalars())


def test_a_result_is_dropped_once_it_is_older_than_the_days_that_are_kept(ingest: Ingest, database: Database) -> None:
    assert ingest.expire(MIDNIGHT_MS + 9 * DAY_MS, days=3) == 6
    assert kept(database) == [7, 8, 9, 10]
    assert ingest.expire(MIDNIGHT_MS + 10 * DAY_MS - 1, days=3) == 0
    assert ingest.expire(MIDNIGHT_MS + 10 * DAY_MS, days=3) == 1


def test_a_dropped_result_is_not_taken_for_a_lost_one(ingest: Ingest, database: Database) -> None:
    ingest.expire(MIDNIGHT_MS + 9 * DAY_MS, days=3)
    counts = ingest.summary().counts
    assert (counts.sent, counts.stored, counts.lost) == (5, 4, 1)
    with database.reading() as connection:
        assert connection.execute(select(tables.streams.c.expired)).scalar_one() == 6


def test_what_was_dropped_is_not_taken_again(ingest: Ingest, database: Database) -> None:
    ingest.expire(MIDNIGHT_MS + 20 * DAY_MS, days=3)
    opened = ingest.open("edge-1", 7)
    ingest.commit([batch(opened, 1, payload(1, [1] * 12), 12)], MIDNIGHT_MS + 20 * DAY_MS)
    assert kept(database) == [11, 12]


def test_much_goes_in_slices(ingest: Ingest, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sqlite, "SLICE", 2)
    assert ingest.expire(MIDNIGHT_MS + 9 * DAY_MS, days=3) == 6
    assert kept(database) == [7, 8, 9, 10]


def test_on_postgresql_there_is_a_partition_for_each_day_and_some_ahead_and_none_that_is_over(
    ingest: Ingest, database: Database
) -> None:
    with database.reading() as connection:
        if connection.dialect.name == "sqlite":
            return
    ingest.expire(MIDNIGHT_MS + 9 * DAY_MS, days=2)
    with database.reading() as connection:
        days = sorted(name for name in inspect(connection).get_table_names() if name.startswith("results_2"))
    assert days == [f"results_202410{day:02}" for day in range(11, 17)]


def test_while_a_large_day_is_dropped_others_write_and_name_new_sources(postgresql: Cluster) -> None:
    database = Database(postgresql.new_database())
    database.create()
    ingest, late_ms = Ingest(database, known), MIDNIGHT_MS + 9 * DAY_MS
    ingest.truths("edge-1", "camera", 1, [1])
    ingest.commit([batch(ingest.open("edge-1", 7), 1, payload(1, [1]), 1)], MIDNIGHT_MS)
    with ThreadPoolExecutor(1) as threads:
        with database.beside() as connection:
            connection.execute(select(tables.truths).with_for_update())  # so that dropping takes until we say so
            expiring = threads.submit(ingest.expire, late_ms, 3)
            asyncio.run(eventually(lambda: blocked(database) == 1))
            assert ingest.expire(late_ms, days=3) == 0  # one at it is enough
            other = ingest.open("edge-2", 7)
            new = payload(1, [1], source="another")
            (outcome,) = ingest.commit([batch(other, 1, new, 1, device="edge-2")], late_ms)
            assert outcome.fate is Fate.STORED
        assert expiring.result() == 1
    assert ingest.expire(late_ms, days=3) == 0
    assert [(one.stored, one.expired, one.lost) for one in ingest.audit()] == [(0, 1, 0), (1, 0, 0)]
    database.close()


def test_a_clock_that_was_put_back_finds_or_makes_its_day(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([batch(opened, 11, payload(11, [1]), 1)], MIDNIGHT_MS - 50 * DAY_MS)
    assert kept(database)[-1] == 11


def minutes(database: Database) -> list[int]:
    """Days of the account, of both its tables."""
    accounts = [tables.result_minutes.c.minute, tables.result_minute_labels.c.minute]
    with database.reading() as connection:
        whole, by_label = (connection.execute(select(one).order_by(one)).scalars().all() for one in accounts)
    assert whole == by_label
    return [minute // 1440 - MIDNIGHT_MS // DAY_MS for minute in whole]


def test_the_account_is_kept_for_its_own_time(ingest: Ingest, database: Database) -> None:
    ingest.expire(MIDNIGHT_MS + 9 * DAY_MS, days=3)
    assert minutes(database) == list(range(10))
    assert ingest.expire_account(MIDNIGHT_MS + 9 * DAY_MS, days=5) == 8
    assert minutes(database) == list(range(4, 10))
    assert ingest.expire_account(MIDNIGHT_MS + 9 * DAY_MS, days=5) == 0
    assert kept(database) == [7, 8, 9, 10]


def test_an_account_of_nothing_is_kept_without_trouble(database: Database) -> None:
    assert Ingest(database, known).expire_account(MIDNIGHT_MS, days=1) == 0


def test_quarantine_is_kept_for_its_own_time_and_the_books_still_balance(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-2", 7)
    for day in range(3):
        poison = batch(opened, day + 1, b"?", 1, device="edge-2")
        ingest.commit([poison], MIDNIGHT_MS + day * DAY_MS)
    assert ingest.expire_quarantine(MIDNIGHT_MS + 2 * DAY_MS, days=1) == 1
    assert [one.first_seq for one in Quarantine(database, known).page(10)] == [3, 2]
    audited = next(one for one in ingest.audit() if one.device == "edge-2")
    assert (audited.quarantined, audited.lost) == (3, 0)


def test_what_is_to_be_kept_for_ever_is_and_the_rest_is_dropped_in_its_turn(ingest: Ingest, database: Database) -> None:
    async def a_moment(retention: Retention) -> None:
        running = asyncio.create_task(retention.run())
        while kept(database):  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(a_moment(Retention([Kept("results", 1, ingest.expire), Kept("aggregates", 0, ingest.expire_account)])))
    assert len(minutes(database)) == 10
