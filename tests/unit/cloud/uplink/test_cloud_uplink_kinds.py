"""Kinds of what arrives once: each has its own numbers, all of a commit are stored or none, audits tell them apart."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from sqlalchemy import Connection, Table, select
from test_cloud_uplink_service import NOW_MS, known, payload

from cloud.events.store import events as events_table
from cloud.foundation.database import Database
from cloud.foundation.retention import Kept, Retention
from cloud.uplink import tables
from cloud.uplink.consumers import Consumers
from cloud.uplink.consuming import Start
from cloud.uplink.entities import (
    DAY_MS,
    MAX_BATCH_BYTES,
    Audited,
    Books,
    Fate,
    Opened,
    Outcome,
    ReceivedBatch,
)
from cloud.uplink.quarantine import Quarantine
from cloud.uplink.service import Ingest
from protos.kit.kinds import Kind
from tests import kinds
from tests.kinds import TABLES, ingest_of_all_kinds


@pytest.fixture
def ingest(database: Database) -> Ingest:
    return ingest_of_all_kinds(database, known)


@pytest.fixture
def opened(ingest: Ingest) -> dict[Kind, Opened]:
    """One device's streams: its outboxes were begun with the same epoch."""
    return {kind: ingest.open("edge-1", 7, kind) for kind in Kind}


def content(kind: Kind, first: int, count: int) -> bytes:
    if kind is Kind.RESULTS:
        return payload(first, [1] * count)
    return kinds.events(first, count) if kind is Kind.EVENTS else kinds.telemetry(first, count)


def batch(
    kind: Kind,
    opened: dict[Kind, Opened],
    first: int,
    count: int,
    *,
    data: bytes | None = None,
    previous: int | None = None,
) -> ReceivedBatch:
    data = content(kind, first, count) if data is None else data
    before = first - 1 if previous is None else previous
    return ReceivedBatch(opened[kind].stream, "edge-1", first, count, data, before, kind=kind)


def said(kind: Kind, opened: dict[Kind, Opened], **numbers: int) -> ReceivedBatch:
    return ReceivedBatch(opened[kind].stream, "edge-1", 0, 0, b"", 0, Books(**numbers), kind)


def numbers(database: Database, table: Table) -> list[int]:
    with database.reading() as connection:
        return list(connection.execute(select(table.c.seq).order_by(table.c.seq)).scalars())


def test_each_kind_has_a_stream_of_its_own_also_with_the_same_epoch(opened: dict[Kind, Opened]) -> None:
    assert len({one.stream for one in opened.values()}) == len(Kind)
    assert {one.watermark for one in opened.values()} == {0}


def test_all_kinds_go_into_one_commit_and_each_has_its_own_watermark(
    ingest: Ingest, database: Database, opened: dict[Kind, Opened]
) -> None:
    counts = {Kind.RESULTS: 5, Kind.EVENTS: 2, Kind.TELEMETRY: 3}
    outcomes = ingest.commit([batch(kind, opened, 1, count) for kind, count in counts.items()], NOW_MS)
    assert outcomes == [Outcome(Fate.STORED, count) for count in counts.values()]
    for kind, count in counts.items():
        assert numbers(database, TABLES[kind]) == list(range(1, count + 1))
        assert ingest.open("edge-1", 7, kind) == Opened(opened[kind].stream, count)


@pytest.mark.parametrize("kind", [Kind.EVENTS, Kind.TELEMETRY])
def test_batches_sent_again_and_overlapping_are_stored_once(
    ingest: Ingest, database: Database, opened: dict[Kind, Opened], kind: Kind
) -> None:
    runs = ((1, 4), (1, 4), (3, 4), (7, 1), (1, 7))
    fates = [ingest.commit([batch(kind, opened, *run, previous=0)], NOW_MS)[0].fate for run in runs]
    assert fates == [Fate.STORED, Fate.DUPLICATE, Fate.STORED, Fate.STORED, Fate.DUPLICATE]
    assert numbers(database, TABLES[kind]) == list(range(1, 8))


@pytest.mark.parametrize("kind", [Kind.EVENTS, Kind.TELEMETRY])
def test_a_commit_that_fails_for_one_kind_stores_nothing_of_any_and_moves_no_watermark(
    ingest: Ingest, database: Database, opened: dict[Kind, Opened], kind: Kind
) -> None:
    rename(database, TABLES[kind].name, "hidden")
    with pytest.raises(Exception, match=TABLES[kind].name):
        ingest.commit([batch(each, opened, 1, 3) for each in Kind], NOW_MS)
    rename(database, "hidden", TABLES[kind].name)
    for each in Kind:
        assert numbers(database, TABLES[each]) == []
        assert ingest.open("edge-1", 7, each).watermark == 0


def rename(database: Database, table: str, name: str) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


@pytest.mark.parametrize("kind", [Kind.EVENTS, Kind.TELEMETRY])
@pytest.mark.parametrize("wrong", ["no such batch", "another count", "too large"])
def test_poison_is_set_aside_under_the_name_of_its_kind_and_the_watermark_passes_it(
    ingest: Ingest, database: Database, opened: dict[Kind, Opened], kind: Kind, wrong: str
) -> None:
    data = {
        "no such batch": b"\xff\xff",
        "another count": content(kind, 1, 4),
        "too large": bytes(MAX_BATCH_BYTES + 1),
    }[wrong]
    outcomes = ingest.commit([batch(kind, opened, 1, 3, data=data), batch(kind, opened, 4, 2)], NOW_MS)
    assert [(one.fate, one.watermark) for one in outcomes] == [(Fate.QUARANTINED, 3), (Fate.STORED, 5)]
    assert numbers(database, TABLES[kind]) == [4, 5]
    (aside,) = Quarantine(database, known).page(10)
    assert (aside.kind, aside.first_seq, aside.count, aside.reason) == (kind, 1, 3, outcomes[0].reason)
    assert ingest.audit(kind) == [Audited("edge-1", made=5, sent=5, stored=2, quarantined=3)]


def test_the_audit_of_a_kind_sees_only_that_kind(ingest: Ingest, opened: dict[Kind, Opened]) -> None:
    ingest.commit([batch(Kind.RESULTS, opened, 1, 5)], NOW_MS)
    books = said(Kind.EVENTS, opened, last_seq=9, dropped=2, waiting=3)
    ingest.commit([books, batch(Kind.EVENTS, opened, 3, 4, previous=0)], NOW_MS)
    nothing = Audited("edge-1")
    assert ingest.audit(Kind.RESULTS) == [Audited("edge-1", made=5, sent=5, stored=5)]
    assert ingest.audit(Kind.EVENTS) == [
        Audited("edge-1", made=9, waiting=3, dropped=2, sent=4, stored=4, said_ms=NOW_MS)
    ]
    assert ingest.audit(Kind.TELEMETRY) == [nothing]


@pytest.mark.parametrize("kind", [Kind.EVENTS, Kind.TELEMETRY])
def test_a_row_deleted_by_hand_and_one_that_never_came_are_lost(
    ingest: Ingest, database: Database, opened: dict[Kind, Opened], kind: Kind
) -> None:
    ingest.commit([said(kind, opened, last_seq=6), batch(kind, opened, 2, 5, previous=0)], NOW_MS)
    with database.transaction() as connection:
        connection.execute(TABLES[kind].delete().where(TABLES[kind].c.seq == 4))
    (audited,) = ingest.audit(kind)
    assert (audited.made, audited.stored, audited.lost, audited.doubled) == (6, 4, 2, 0)


def test_whoever_asks_of_results_sees_nothing_of_the_other_kinds(
    ingest: Ingest, database: Database, opened: dict[Kind, Opened]
) -> None:
    consumers = Consumers(database)
    consumers.create("early", Start.EARLIEST, NOW_MS)
    for kind in (Kind.EVENTS, Kind.TELEMETRY):
        gap_and_poison = [batch(kind, opened, 4, 3, previous=0), batch(kind, opened, 7, 1, data=b"\xff")]
        ingest.commit(gap_and_poison, NOW_MS)
    consumers.create("late", Start.LATEST, NOW_MS)
    counts = ingest.summary().counts
    assert (counts.results_total, counts.quarantined, counts.skipped) == (0, 0, 0)
    assert {one.name: one.behind for one in consumers.every()} == {"early": 0, "late": 0}
    assert consumers.read("early", 10) is None
    with database.reading() as connection:
        assert connection.execute(select(tables.positions)).all() == []
    ingest.commit([batch(Kind.RESULTS, opened, 1, 2)], NOW_MS)
    reading = consumers.read("late", 10)
    assert reading is not None
    assert [one.seq for one in reading.results] == [1, 2]


@pytest.fixture
def ten_days(ingest: Ingest, opened: dict[Kind, Opened]) -> int:
    """Of each kind a row on each of ten days; the last of these days."""
    for day in range(10):
        ingest.commit([batch(kind, opened, day + 1, 1) for kind in Kind], (20_000 + day) * DAY_MS)
    return (20_000 + 9) * DAY_MS


@pytest.mark.parametrize("kind", [Kind.EVENTS, Kind.TELEMETRY])
def test_a_kind_is_kept_for_as_many_days_as_are_set_and_its_books_balance(
    ingest: Ingest, database: Database, ten_days: int, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.uplink.store_kinds.SLICE", 4)
    assert ingest.expire_kind(kind, ten_days, days=3) == 6
    assert ingest.expire_kind(kind, ten_days, days=3) == 0
    for each in Kind:
        assert numbers(database, TABLES[each]) == list(range(7 if each is kind else 1, 11))
    assert ingest.audit(kind) == [Audited("edge-1", made=10, sent=10, stored=4, expired=6)]


@pytest.mark.parametrize("kind", [Kind.EVENTS, Kind.TELEMETRY])
@pytest.mark.usefixtures("ten_days")
def test_retention_drops_each_kind_by_its_own_setting(ingest: Ingest, database: Database, kind: Kind) -> None:
    async def a_moment(retention: Retention) -> None:
        running = asyncio.create_task(retention.run())
        while numbers(database, TABLES[kind]):  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    every = [
        Kept(str(one), int(one is kind), partial(ingest.expire_kind, one)) for one in Kind if one is not Kind.RESULTS
    ]
    asyncio.run(a_moment(Retention([Kept("results", 0, ingest.expire), *every])))
    assert {each for each in Kind if numbers(database, TABLES[each])} == set(Kind) - {kind}


def test_an_ingest_without_rooms_for_them_takes_results_alone(database: Database) -> None:
    assert Ingest(database, known).kinds == {Kind.RESULTS}


def test_rows_are_written_in_the_transaction_that_moves_the_watermark(
    ingest: Ingest, opened: dict[Kind, Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    taker = ingest._takers[Kind.EVENTS]
    write = taker.write

    def watched(transaction: Connection, *rest: object) -> None:
        write(transaction, *rest)  # type: ignore[arg-type]
        watermark = select(tables.streams.c.watermark).where(tables.streams.c.id == opened[Kind.EVENTS].stream)
        rows = transaction.execute(select(events_table.c.seq)).scalars().all()
        seen.append((transaction.execute(watermark).scalar_one(), max(rows)))

    monkeypatch.setattr(taker, "write", watched)
    ingest.commit([batch(Kind.EVENTS, opened, 1, 3)], NOW_MS)
    assert seen == [(3, 3)]
