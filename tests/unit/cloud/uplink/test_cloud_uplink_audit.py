"""The account of a device's results, against both databases: what is said, what is there, and what is wrong."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from test_cloud_uplink_service import NOW_MS, batch, known, payload

from cloud.foundation.database import Database
from cloud.uplink import tables
from cloud.uplink.entities import DAY_MS, Audited, Books, Fate, Opened, ReceivedBatch
from cloud.uplink.service import Ingest

r = tables.results.c


@pytest.fixture
def ingest(database: Database) -> Ingest:
    return Ingest(database, known)


def said(opened: Opened, device: str = "edge-1", **numbers: int) -> ReceivedBatch:
    return ReceivedBatch(opened.stream, device, 0, 0, b"", opened.watermark, Books(**numbers))


def rows(opened: Opened, first: int, count: int, previous: int | None = None) -> ReceivedBatch:
    """Results whose frames have the numbers of the results."""
    return batch(opened, first, payload(first, [1] * count), count, previous=previous)


def insert_copy(database: Database, of: int, **changes: int) -> None:
    """By hand, a copy of a row."""
    with database.transaction() as connection:
        found = connection.execute(select(tables.results).where(r.seq == of)).mappings().first()
        assert found
        connection.execute(tables.results.insert().values(dict(found) | changes))


def delete_row(database: Database, seq: int) -> None:
    with database.transaction() as connection:
        connection.execute(tables.results.delete().where(r.seq == seq))


def test_what_the_device_says_it_sent_is_all_there(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([said(opened, last_seq=5, waiting=5), rows(opened, 1, 5)], NOW_MS)
    assert ingest.audit() == [Audited("edge-1", made=5, sent=5, stored=5, said_ms=NOW_MS)]


def test_what_is_still_in_the_outbox_waits_and_is_not_lost(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([said(opened, last_seq=9, waiting=9), rows(opened, 1, 5)], NOW_MS)
    assert ingest.audit() == [Audited("edge-1", made=9, waiting=4, sent=5, stored=5, said_ms=NOW_MS)]


def test_what_the_outbox_dropped_by_its_policy_is_not_lost(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([said(opened, last_seq=9, dropped=3, waiting=6), rows(opened, 4, 2, previous=0)], NOW_MS)
    assert ingest.audit() == [Audited("edge-1", made=9, waiting=4, dropped=3, sent=2, stored=2, said_ms=NOW_MS)]


def test_what_it_dropped_and_has_sent_nothing_after_is_not_lost_either(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([said(opened, last_seq=9, dropped=3, waiting=6)], NOW_MS)
    assert ingest.audit() == [Audited("edge-1", made=9, waiting=6, dropped=3, said_ms=NOW_MS)]


def test_numbers_that_were_passed_over_and_that_the_device_does_not_say_it_dropped_are_lost(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([said(opened, last_seq=9, dropped=1, waiting=6), rows(opened, 4, 6, previous=0)], NOW_MS)
    assert ingest.audit() == [Audited("edge-1", made=9, dropped=1, sent=8, stored=6, lost=2, said_ms=NOW_MS)]


def test_results_that_were_acknowledged_and_are_unknown_now_are_lost(ingest: Ingest) -> None:
    """As after the database was put back from a copy: the device has deleted them."""
    opened = ingest.open("edge-1", 7)
    ingest.commit([rows(opened, 1, 5), said(opened, last_seq=20, acknowledged=12, waiting=8)], NOW_MS)
    assert ingest.audit() == [Audited("edge-1", made=20, waiting=8, sent=12, stored=5, lost=7, said_ms=NOW_MS)]


def test_what_is_in_quarantine_is_not_lost(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit(
        [said(opened, last_seq=8, waiting=8), rows(opened, 1, 5), batch(opened, 4, b"?", 5, previous=5)], NOW_MS
    )
    assert ingest.audit() == [Audited("edge-1", made=8, sent=8, stored=5, quarantined=3, said_ms=NOW_MS)]


def test_what_retention_dropped_is_not_lost(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([said(opened, last_seq=2, waiting=2), rows(opened, 1, 2)], NOW_MS)
    ingest.expire(NOW_MS + 9 * DAY_MS, days=1)
    assert ingest.audit() == [Audited("edge-1", made=2, sent=2, expired=2, said_ms=NOW_MS)]


def test_a_row_deleted_by_hand_is_lost_whatever_the_device_dropped(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    # Of those that it dropped, one was on its way and is stored.
    ingest.commit([said(opened, last_seq=9, dropped=4, waiting=5), rows(opened, 4, 6, previous=0)], NOW_MS)
    delete_row(database, 6)
    (found,) = ingest.audit()
    assert (found.dropped, found.sent, found.stored, found.lost, found.doubled) == (3, 6, 5, 1, 0)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"seq": 2}, id="in place of a dropped one"),
        pytest.param({"seq": 50}, id="under a number that was never given"),
        pytest.param({"seq": 50, "frame": 999}, id="as a frame that never was"),
    ],
)
def test_a_row_inserted_by_hand_is_doubled_and_hides_no_lost_one(
    ingest: Ingest, database: Database, changes: dict[str, int]
) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([said(opened, last_seq=9, dropped=3, waiting=6), rows(opened, 4, 6, previous=0)], NOW_MS)
    insert_copy(database, 5, **changes)
    (found,) = ingest.audit()
    assert (found.stored, found.lost, found.doubled) == (7, 0, 1)
    if changes["seq"] == 50:
        delete_row(database, 7)
        (found,) = ingest.audit()
        assert (found.stored, found.lost, found.doubled) == (6, 1, 1)


def test_a_number_that_is_there_on_two_days_is_doubled(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([said(opened, last_seq=3, waiting=3), rows(opened, 1, 3)], NOW_MS)
    with database.reading() as connection:
        if connection.dialect.name == "sqlite":
            return  # its key goes over all days
    insert_copy(database, 2, received_ms=NOW_MS + DAY_MS)
    (found,) = ingest.audit()
    assert (found.stored, found.lost, found.doubled) == (4, 0, 1)


def test_a_frame_that_two_lives_of_an_outbox_brought_is_doubled(ingest: Ingest) -> None:
    old, new = ingest.open("edge-1", 7), ingest.open("edge-1", 8)
    ingest.commit([rows(old, 1, 3), rows(new, 3, 1, previous=0)], NOW_MS)
    (found,) = ingest.audit()
    assert (found.stored, found.lost, found.doubled) == (4, 0, 1)


def test_a_frame_that_one_model_answers_in_two_slots_is_there_once_for_each(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    doors = batch(opened, 4, payload(1, [1] * 3, slot="doors"), 3)
    ingest.commit([rows(opened, 1, 3), doors], NOW_MS)
    (found,) = ingest.audit()
    assert (found.stored, found.lost, found.doubled) == (6, 0, 0)


def test_a_later_life_of_the_outbox_goes_on_with_the_numbers_and_misses_none(ingest: Ingest) -> None:
    old = ingest.open("edge-1", 7)
    ingest.commit([said(old, last_seq=4, waiting=4), rows(old, 1, 6)], NOW_MS)
    new = ingest.open("edge-1", 8)
    ingest.commit([said(new, last_seq=10, before=6, waiting=4), rows(new, 7, 4, previous=0)], NOW_MS)
    assert ingest.audit() == [Audited("edge-1", made=10, sent=10, stored=10, said_ms=NOW_MS)]


def test_what_waited_in_an_outbox_that_is_no_more_is_lost(ingest: Ingest) -> None:
    old = ingest.open("edge-1", 7)
    ingest.commit([said(old, last_seq=9, waiting=9), rows(old, 1, 5)], NOW_MS)
    new = ingest.open("edge-1", 8)
    ingest.commit([said(new, last_seq=1, waiting=1)], NOW_MS)
    (found,) = ingest.audit()
    assert (found.made, found.waiting, found.sent, found.stored, found.lost) == (10, 1, 9, 5, 4)


def test_of_what_a_device_says_the_newest_counts_in_whichever_order_it_comes(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    newest = said(opened, last_seq=9, acknowledged=2, waiting=7)
    ingest.commit([newest], NOW_MS)
    ingest.commit([said(opened, last_seq=5, waiting=5)], NOW_MS + 1)
    assert ingest.audit() == [Audited("edge-1", made=9, waiting=7, sent=2, lost=2, said_ms=NOW_MS)]


def test_a_device_that_says_nothing_is_judged_by_the_numbers_that_came(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([rows(opened, 4, 3, previous=0)], NOW_MS)
    delete_row(database, 5)
    assert ingest.audit() == [Audited("edge-1", made=6, dropped=3, sent=3, stored=2, lost=1)]


def test_books_move_no_watermark_and_are_kept_with_the_rows_of_the_same_commit(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    outcomes = ingest.commit([said(opened, last_seq=3, waiting=3), rows(opened, 1, 3)], NOW_MS)
    assert [(one.fate, one.watermark) for one in outcomes] == [(Fate.NOTED, 0), (Fate.STORED, 3)]


def test_books_of_a_stream_that_the_database_has_lost_make_the_device_start_again(ingest: Ingest) -> None:
    (outcome,) = ingest.commit([said(Opened(99, 0), last_seq=3, waiting=3)], NOW_MS)
    assert outcome.fate is Fate.DETACHED
