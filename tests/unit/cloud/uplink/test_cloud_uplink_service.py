"""Batches into a real SQLite database, and the account of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from cloud.foundation.database import Database
from cloud.uplink import tables
from cloud.uplink.consumers import Consumers
from cloud.uplink.consuming import Start
from cloud.uplink.entities import Fate, InvalidTruths, KnownVersion, Opened, ReceivedBatch
from cloud.uplink.quarantine import Quarantine
from cloud.uplink.service import Ingest
from protos.kit.columns import Results, encode

MANIFESTS = {1: b"1" * 32, 2: b"2" * 32}
NOW_MS = 1_700_000_000_000


OTHER_MODEL = b"g" * 32


def known(digest: bytes) -> KnownVersion | None:
    if digest == OTHER_MODEL:
        return KnownVersion("gates", 1, classes=10)
    found = {manifest: version for version, manifest in MANIFESTS.items()}.get(digest)
    return KnownVersion("digits", found, classes=10) if found else None


@pytest.fixture
def ingest(database: Database) -> Ingest:
    return Ingest(database, known)


def payload(
    first_frame: int,
    labels: Sequence[int],
    version: int = 1,
    source: str = "camera",
    model: str = "digits",
    *,
    slot: str = "default",
) -> bytes:
    n = len(labels)
    return encode(
        Results(
            model=model,
            version=version,
            manifest=MANIFESTS.get(version, bytes(32)) if model == "digits" else OTHER_MODEL,
            source=source,
            frame=np.arange(first_frame, first_frame + n, dtype=np.uint64),
            captured_us=np.arange(n, dtype=np.int64) + 5,
            label=np.array(labels, np.uint16),
            confidence=np.full(n, 0.5, np.float32),
            latency_us=np.full(n, 70, np.uint32),
            slot=slot,
        )
    )


def batch(
    opened: Opened, first_seq: int, data: bytes, count: int, *, device: str = "edge-1", previous: int | None = None
) -> ReceivedBatch:
    return ReceivedBatch(opened.stream, device, first_seq, count, data, first_seq - 1 if previous is None else previous)


def stored(database: Database) -> list[tuple[int, int]]:
    with database.reading() as connection:
        rows = connection.execute(select(tables.results.c.stream, tables.results.c.seq).order_by("stream", "seq"))
        return [(row.stream, row.seq) for row in rows]


def test_a_new_stream_begins_at_watermark_zero_and_an_old_one_where_it_was(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    assert opened.watermark == 0
    ingest.commit([batch(opened, 1, payload(1, [1, 2, 3]), 3)], NOW_MS)
    assert ingest.open("edge-1", 7) == Opened(opened.stream, 3)


def test_another_epoch_is_another_stream(ingest: Ingest) -> None:
    assert ingest.open("edge-1", 7).stream != ingest.open("edge-1", 8).stream


def test_every_column_reaches_its_row(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([batch(opened, 1, payload(11, [4, 9]), 2)], NOW_MS)
    with database.reading() as connection:
        row = connection.execute(select(tables.results).where(tables.results.c.seq == 2)).mappings().one()
    assert dict(row) == {
        "stream": opened.stream,
        "seq": 2,
        "source": 1,
        "frame": 12,
        "version": 1,
        "label": 9,
        "confidence": 0.5,
        "latency_us": 70,
        "captured_us": 6,
        "received_ms": NOW_MS,
    }


def test_several_batches_of_several_streams_go_into_one_commit_in_order(ingest: Ingest, database: Database) -> None:
    one, two = ingest.open("edge-1", 7), ingest.open("edge-2", 9)
    outcomes = ingest.commit(
        [
            batch(one, 1, payload(1, [1, 2]), 2),
            batch(two, 1, payload(1, [1]), 1, device="edge-2"),
            batch(one, 3, payload(3, [3]), 1),
            batch(one, 1, payload(1, [1, 2]), 2),
        ],
        NOW_MS,
    )
    assert [(o.fate, o.watermark) for o in outcomes] == [
        (Fate.STORED, 2),
        (Fate.STORED, 1),
        (Fate.STORED, 3),
        (Fate.DUPLICATE, 3),
    ]
    assert stored(database) == [(one.stream, 1), (one.stream, 2), (one.stream, 3), (two.stream, 1)]


def test_of_an_overlap_the_right_rows_are_stored(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([batch(opened, 1, payload(1, [1, 2]), 2)], NOW_MS)
    ingest.commit([batch(opened, 2, payload(2, [2, 3, 4]), 3)], NOW_MS)
    with database.reading() as connection:
        rows = connection.execute(select(tables.results.c.seq, tables.results.c.frame, tables.results.c.label))
        assert sorted(tuple(row) for row in rows) == [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xffnonsense", "not a ResultBatch"),
        (payload(1, [1, 2], version=5), "not registered"),
        (payload(1, [1, 10]), "label 10"),
        (payload(1, [1, 2, 3]), "count is 3"),
    ],
)
def test_poison_is_set_aside_with_its_bytes_and_later_batches_flow(
    ingest: Ingest, database: Database, data: bytes, reason: str
) -> None:
    opened = ingest.open("edge-1", 7)
    outcomes = ingest.commit([batch(opened, 1, data, 2), batch(opened, 3, payload(3, [1]), 1)], NOW_MS)
    assert [(o.fate, o.watermark) for o in outcomes] == [(Fate.QUARANTINED, 2), (Fate.STORED, 3)]
    (kept,) = Quarantine(database, known).page(10)
    assert (kept.device, kept.epoch, kept.first_seq, kept.count, kept.size) == ("edge-1", 7, 1, 2, len(data))
    assert reason in kept.reason
    with database.reading() as connection:
        assert connection.execute(select(tables.quarantine.c.payload)).scalar_one() == data


def test_poison_that_overlaps_is_kept_under_the_numbers_that_are_new(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    later = [batch(opened, 1, b"one", 4, previous=0), batch(opened, 1, b"two", 6, previous=0)]
    ingest.commit([batch(opened, 1, payload(1, [1, 2]), 2), *later], NOW_MS)
    kept = Quarantine(database, known).page(10)
    assert [(one.first_seq, one.count, Quarantine(database, known).payload(one.id)) for one in kept] == [
        (5, 2, b"two"),
        (3, 2, b"one"),
    ]
    (audited,) = ingest.audit()
    assert (audited.stored, audited.quarantined, audited.lost) == (2, 4, 0)


def test_poison_without_usable_numbers_is_kept_once_however_often_it_comes(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    for _ in range(3):
        (outcome,) = ingest.commit([batch(opened, 2**64 - 1, b"?", 2**32 - 1, previous=0)], NOW_MS)
        assert (outcome.fate, outcome.watermark) == (Fate.QUARANTINED, 0)
    assert [one.first_seq for one in Quarantine(database, known).page(10)] == [2**64 - 1]


def test_a_commit_that_fails_stores_nothing_and_may_be_repeated(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit([], NOW_MS)
    row = dict.fromkeys(tables.results.c.keys(), 0) | {"stream": opened.stream, "seq": 3, "received_ms": NOW_MS}
    with database.transaction() as connection:  # a row in the way of the second batch
        connection.execute(tables.results.insert().values(row))
    batches = [batch(opened, 1, payload(1, [1, 2]), 2), batch(opened, 3, payload(3, [3]), 1)]
    with pytest.raises((IntegrityError, psycopg.IntegrityError)):
        ingest.commit(batches, NOW_MS)
    assert stored(database) == [(opened.stream, 3)]
    with database.transaction() as connection:
        connection.execute(tables.results.delete())
    assert [o.watermark for o in ingest.commit(batches, NOW_MS)] == [2, 3]
    assert stored(database) == [(opened.stream, 1), (opened.stream, 2), (opened.stream, 3)]


def test_a_stream_that_the_database_has_lost_starts_again(ingest: Ingest) -> None:
    (outcome,) = ingest.commit([batch(Opened(99, 5), 6, payload(1, [1]), 1)], NOW_MS)
    assert outcome.fate is Fate.DETACHED


def test_a_frame_that_two_models_of_a_device_answered_is_not_doubled(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    answers = [
        batch(opened, 1, payload(1, [1, 2]), 2),
        batch(opened, 3, payload(1, [3, 4], model="gates"), 2),
        batch(opened, 5, payload(2, [4], model="gates"), 1),
    ]
    assert {outcome.fate for outcome in ingest.commit(answers, NOW_MS)} == {Fate.STORED}
    assert ingest.summary("digits").counts.duplicated == 1
    assert [audited.doubled for audited in ingest.audit()] == [1]


def test_the_summary_accounts_for_every_frame(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.truths("edge-1", "camera", 1, [1, 2, 3, 4])
    ingest.truths("edge-1", "camera", 1, [1, 2, 3, 4])
    ingest.commit(
        [
            batch(opened, 1, payload(1, [1, 2]), 2),
            batch(opened, 3, payload(2, [5], version=2), 1),  # frame 2 for the second time, and wrong
            batch(opened, 4, payload(3, [3], version=2), 1),
            batch(opened, 5, payload(1, [1], source="other"), 1),  # a source that never says the truth
        ],
        NOW_MS,
    )
    summary = ingest.summary()
    assert (summary.counts.sent, summary.counts.stored, summary.counts.lost) == (4, 3, 1)
    assert (summary.counts.duplicated, summary.counts.results_total) == (1, 5)
    assert summary.model == "digits"
    assert summary.accuracy == {1: 1.0, 2: 0.5}
    assert summary.results_per_version == {1: 3, 2: 2}


def test_the_summary_counts_what_devices_dropped_and_what_was_set_aside(ingest: Ingest) -> None:
    opened = ingest.open("edge-1", 7)
    ingest.commit(
        [batch(opened, 5, payload(1, [1]), 1, previous=0), batch(opened, 6, b"?", 1)],
        NOW_MS,
    )
    counts = ingest.summary().counts
    assert (counts.skipped, counts.quarantined) == (4, 1)


def test_devices_that_leave_out_more_numbers_than_can_be_added_spoil_no_account(
    ingest: Ingest, database: Database
) -> None:
    consumers = Consumers(database)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    for device in ("edge-1", "edge-2", "edge-3"):
        opened = ingest.open(device, 7)
        ingest.commit([batch(opened, 2**62, payload(1, [1]), 1, device=device, previous=0)], NOW_MS)
    assert ingest.summary().counts.skipped == pytest.approx(3 * 2**62)
    assert [one.behind for one in consumers.every()] == [pytest.approx(3 * 2**62)]
    assert [one.stored for one in ingest.audit()] == [1, 1, 1]


def test_the_summary_of_an_empty_database_is_all_zero(ingest: Ingest) -> None:
    summary = ingest.summary()
    assert (summary.counts.sent, summary.counts.lost, summary.model, summary.accuracy) == (0, 0, None, {})


def test_wrong_truths_are_refused(ingest: Ingest) -> None:
    with pytest.raises(InvalidTruths):
        ingest.truths("edge-1", "camera", 0, [1])
