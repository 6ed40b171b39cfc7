"""The account by minute says of results what counting them would say, whatever comes twice, overlaps or fails."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from test_cloud_uplink_service import NOW_MS, batch, known, payload, stored

from cloud.foundation.database import Database
from cloud.uplink import tables
from cloud.uplink.aggregates import (
    CONFIDENCE_BINS,
    CONFIDENCES,
    LATENCIES,
    LATENCY_BINS,
    LATENCY_EDGES_US,
    MINUTE_MS,
    added,
    latency_bin,
)
from cloud.uplink.entities import Block
from cloud.uplink.service import Ingest
from protos.kit.columns import Results

Entry = tuple[int, int, int, float, int]
entries = st.tuples(
    st.integers(1, 3),  # source
    st.integers(1, 2),  # version
    st.one_of(st.integers(0, 3), st.integers(0, 2**16 - 1)),  # label
    st.floats(-1, 2, width=32),  # confidence, as no model should say it, either
    st.integers(0, 2**32 - 1),  # latency
)


@pytest.fixture
def ingest(database: Database) -> Ingest:
    return Ingest(database, known)


def block(entry: Entry) -> Block:
    source, version, label, confidence, latency_us = entry
    one = Results(
        model="digits",
        version=version,
        manifest=bytes(32),
        source="camera",
        frame=np.ones(1, np.uint64),
        captured_us=np.ones(1, np.int64),
        label=np.array([label], np.uint16),
        confidence=np.array([confidence], np.float32),
        latency_us=np.array([latency_us], np.uint32),
    )
    return Block(1, 1, source, version, one)


@given(st.lists(entries, min_size=1, max_size=40))
def test_what_is_added_is_what_counting_every_result_says(given_entries: list[Entry]) -> None:
    new = added([block(entry) for entry in given_entries], NOW_MS)
    by_pair = Counter((source, version) for source, version, *_ in given_entries)
    by_label = Counter((source, version, label) for source, version, label, *_ in given_entries)
    keys = ("source", "version")
    assert list(zip(*(new.minutes[key].tolist() for key in keys), strict=True)) == sorted(by_pair)
    assert new.minutes["results"].tolist() == [by_pair[pair] for pair in sorted(by_pair)]
    assert list(zip(*(new.labels[key].tolist() for key in (*keys, "label")), strict=True)) == sorted(by_label)
    assert new.labels["results"].tolist() == [by_label[key] for key in sorted(by_label)]
    assert sum(new.minutes["latency_us"].tolist()) == sum(entry[4] for entry in given_entries)
    confident = sum(min(max(entry[3], 0.0), 1.0) for entry in given_entries)
    assert new.minutes["confidence"].sum() == pytest.approx(confident)
    assert new.labels["confidence"].sum() == pytest.approx(confident)
    for bins in (LATENCIES, CONFIDENCES):
        assert sum(new.minutes[name] for name in bins).tolist() == new.minutes["results"].tolist()
    assert set(new.minutes["minute"].tolist()) == {NOW_MS // MINUTE_MS}


@given(st.integers(0, 2**32 - 1))
def test_a_latency_is_in_the_bin_whose_edges_enclose_it(latency_us: int) -> None:
    (place,) = latency_bin(np.array([latency_us], np.uint32)).tolist()
    assert place == sum(edge <= latency_us for edge in LATENCY_EDGES_US)
    assert place < LATENCY_BINS


def test_a_certain_answer_is_in_the_highest_bin_and_an_uncertain_one_in_the_lowest() -> None:
    new = added([block((1, 1, 0, 1.0, 5)), block((1, 1, 0, 0.0, 5))], NOW_MS)
    assert [new.minutes[name].tolist() for name in CONFIDENCES] == [[1], *[[0]] * (CONFIDENCE_BINS - 2), [1]]


def accounted(database: Database) -> list[tuple[int, int]]:
    """By minute, the results in the account, and the same by labels."""
    with database.reading() as connection:
        read = [
            connection.execute(
                select(table.c.minute, func.sum(table.c.results)).group_by(table.c.minute).order_by(table.c.minute)
            )
            for table in (tables.result_minutes, tables.result_minute_labels)
        ]
        by_version, by_label = ([(minute, int(count)) for minute, count in one] for one in read)
    assert by_version == by_label
    return by_version


def test_results_of_a_minute_are_added_to_those_that_it_has_and_a_new_minute_begins_anew(
    ingest: Ingest, database: Database
) -> None:
    opened, minute = ingest.open("edge-1", 7), NOW_MS // MINUTE_MS
    ingest.commit([batch(opened, 1, payload(1, [1, 2]), 2)], minute * MINUTE_MS)
    ingest.commit([batch(opened, 3, payload(3, [2]), 1)], minute * MINUTE_MS + MINUTE_MS - 1)
    ingest.commit([batch(opened, 4, payload(4, [2]), 1)], (minute + 1) * MINUTE_MS)
    assert accounted(database) == [(minute, 3), (minute + 1, 1)]
    with database.reading() as connection:
        labels = tables.result_minute_labels.c
        found = connection.execute(select(labels.label, labels.results).where(labels.minute == minute))
        assert sorted(tuple(row) for row in found) == [(1, 1), (2, 2)]
        first = connection.execute(select(tables.result_minutes)).mappings().first()
    assert first is not None
    assert (first["latency_us"], first["confidence"], first["latency_03"], first["confidence_5"]) == (210, 1.5, 3, 3)


def test_what_comes_twice_or_overlaps_or_is_set_aside_is_counted_once_or_not_at_all(
    ingest: Ingest, database: Database
) -> None:
    opened = ingest.open("edge-1", 7)
    first = batch(opened, 1, payload(1, [1, 2]), 2)
    ingest.commit([first, first, batch(opened, 2, payload(2, [2, 3, 4]), 3), batch(opened, 5, b"?", 1)], NOW_MS)
    ingest.commit([first], NOW_MS)
    assert accounted(database) == [(NOW_MS // MINUTE_MS, 4)]


def test_a_commit_that_fails_in_its_last_statement_adds_nothing(ingest: Ingest, database: Database) -> None:
    opened = ingest.open("edge-1", 7)
    arriving = [batch(opened, 1, payload(1, [1]), 1)]
    with database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE result_minute_labels RENAME TO elsewhere")
    with pytest.raises(DBAPIError):
        ingest.commit(arriving, NOW_MS)
    with database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO result_minute_labels")
    assert (accounted(database), stored(database)) == ([], [])
    ingest.commit(arriving, NOW_MS)
    assert accounted(database) == [(NOW_MS // MINUTE_MS, 1)]


def test_replicas_that_add_to_the_same_minutes_in_opposite_orders_do_not_stop_each_other(database: Database) -> None:
    """Devices whose outbox is new stream to one replica, while what their old one had sent is under way at another."""
    devices, rounds = [f"edge-{i}" for i in range(6)], 20
    both_ready = threading.Barrier(2)

    def commit(epoch: int, order: list[str]) -> None:
        replica = Ingest(database, known)
        streams = {device: replica.open(device, epoch) for device in order}
        both_ready.wait()
        for seq in range(1, 1 + rounds):
            arriving = [batch(streams[one], seq, payload(seq, [seq % 10]), 1, device=one) for one in order]
            replica.commit(arriving, NOW_MS)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(commit, (1, 2), (devices, devices[::-1])))
    assert accounted(database) == [(NOW_MS // MINUTE_MS, 2 * rounds * len(devices))]
