"""Results found by what is asked of them, a page after the other; their account by time."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event
from test_cloud_uplink_service import batch, known, payload

from cloud.foundation.database import Database
from cloud.uplink import store_queries
from cloud.uplink.aggregates import LATENCY_BINS, LATENCY_EDGES_US, MINUTE_MS
from cloud.uplink.entities import DAY_MS
from cloud.uplink.queries import Queries
from cloud.uplink.questions import (
    Bucket,
    Found,
    Group,
    InvalidQuestion,
    Place,
    Which,
    as_cursor,
    from_cursor,
    latency_quantile_us,
)
from cloud.uplink.service import Ingest
from protos.kit.columns import decode, encode

DAY = 20_000
BEGIN_MS = DAY * DAY_MS
YEAR_1_MS = -62_135_596_800_000
YEAR_9999_MS = 253_370_764_800_000


@pytest.fixture
def queries(database: Database) -> Queries:
    """Of two devices, one with two epochs, the other with a slot `doors`.

    On each of three days a batch of each stream, labels 0 to 3.
    """
    ingest = Ingest(database, known)
    one, again, two = ingest.open("edge-1", 7), ingest.open("edge-1", 8), ingest.open("edge-2", 7)
    for day in range(3):
        first = 4 * day + 1
        for opened, device, version in ((one, "edge-1", 1), (again, "edge-1", 2), (two, "edge-2", 1)):
            slot = "doors" if device == "edge-2" else "default"
            data = payload(first, [0, 1, 2, 3], version=version, source=f"camera-{version}", slot=slot)
            ingest.commit([batch(opened, first, data, 4, device=device)], BEGIN_MS + day * DAY_MS + opened.stream)
    return Queries(database)


def every(queries: Queries, which: Which, limit: int) -> list[Found]:
    """All pages; each but the last is full."""
    found: list[Found] = []
    after: Place | None = None
    while True:
        page = queries.results(which, after and from_cursor(as_cursor(after)), limit)
        found += page.results
        after = page.after
        if after is None:
            return found
        assert len(page.results) == limit


@pytest.mark.parametrize("limit", [1, 2, 5, 36, 100])
@pytest.mark.parametrize("device", [None, "edge-1", "edge-2"])
def test_pages_of_any_size_have_every_result_once_newest_first(
    queries: Queries, device: str | None, limit: int
) -> None:
    found = every(queries, Which(device=device), limit)
    keys = [(one.device, one.epoch, one.seq) for one in found]
    assert len(keys) == len(set(keys)) == {None: 36, "edge-1": 24, "edge-2": 12}[device]
    if device is None:
        assert [one.received_ms for one in found] == sorted((one.received_ms for one in found), reverse=True)
    else:
        assert [(one.epoch, one.seq) for one in found] == sorted(((o.epoch, o.seq) for o in found), reverse=True)


def test_a_page_goes_on_where_the_last_ended_whatever_has_come_since(queries: Queries, database: Database) -> None:
    page = queries.results(Which(), limit=10)
    ingest = Ingest(database, known)
    ingest.commit([batch(ingest.open("edge-3", 1), 1, payload(1, [1]), 1, device="edge-3")], BEGIN_MS + 3 * DAY_MS)
    rest = queries.results(Which(), page.after, limit=100)
    assert len(rest.results) == 26
    assert {one.device for one in rest.results} == {"edge-1", "edge-2"}


@pytest.mark.parametrize(
    ("which", "count"),
    [
        (Which(label=3), 9),
        (Which(device="edge-1", label=3), 6),
        (Which(model="digits"), 36),
        (Which(model="faces"), 0),
        (Which(version=2), 12),
        (Which(device="edge-2", version=2), 0),
        (Which(source="camera-2"), 12),
        (Which(slot="doors"), 12),
        (Which(version=1, slot="default"), 12),
        (Which(device="edge-1", slot="doors"), 0),
        (Which(device="edge-9"), 0),
        (Which(from_ms=BEGIN_MS + DAY_MS), 24),
        (Which(to_ms=BEGIN_MS + DAY_MS), 12),
        (Which(device="edge-1", from_ms=BEGIN_MS + DAY_MS, to_ms=BEGIN_MS + 2 * DAY_MS), 8),
        (Which(min_confidence=0.5), 36),
        (Which(min_confidence=0.6), 0),
        (Which(max_confidence=0.4), 0),
    ],
)
def test_results_are_found_by_each_of_their_sides(queries: Queries, which: Which, count: int) -> None:
    assert len(every(queries, which, 7)) == count


@pytest.mark.parametrize("confidence", [0.1, 0.6, 0.7, 0.9, 0.123456789])
def test_a_result_is_found_by_the_confidence_that_it_is_shown_with(
    queries: Queries, database: Database, confidence: float
) -> None:
    given = replace(decode(payload(1, [7]), 1), confidence=np.array([confidence], np.float32))
    ingest = Ingest(database, known)
    ingest.commit([batch(ingest.open("edge-3", 7), 1, encode(given), 1, device="edge-3")], BEGIN_MS)
    (shown,) = queries.results(Which(device="edge-3")).results
    assert shown.confidence == round(confidence, 8)
    for asked in (confidence, shown.confidence):
        for which in (Which(device="edge-3", min_confidence=asked), Which(device="edge-3", max_confidence=asked)):
            assert queries.results(which).results == [shown]


def test_a_result_has_its_names(queries: Queries) -> None:
    found = queries.results(Which(device="edge-1"), limit=1).results[0]
    assert (found.device, found.epoch, found.seq, found.source, found.frame) == ("edge-1", 8, 12, "camera-2", 12)
    assert found.slot == "default"
    assert (found.model, found.version, found.label, found.confidence, found.latency_us) == ("digits", 2, 3, 0.5, 70)


@given(st.builds(Place, st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)))
def test_a_cursor_stands_for_its_place(place: Place) -> None:
    assert from_cursor(as_cursor(place)) == place


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "?", "bm8", "WzFd", "WzEsMiwzLDRd", "W251bGwsMSwxXQ", "WzEsMSwxZTMwXQ", "WzEsMSw5ZTk5XQ", "é", "[" * 9),
        *(as_cursor(Place(*key)) for key in ((1, 2**31, 1), (2**63, 1, 1), (1, 1, 2**63), (-1, 1, 1))),
        base64.urlsafe_b64encode(b"[" * 12_000).decode(),
    ],
)
def test_a_cursor_that_nobody_gave_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidQuestion, match="cursor"):
        from_cursor(cursor)


def test_what_takes_too_long_is_ended_with_advice(
    queries: Queries, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_queries, "PATIENCE_S", 0.001)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with (
        database.reading() as connection,
        pytest.raises(InvalidQuestion, match="shorter time"),
        store_queries.bounded(connection),
    ):
        connection.exec_driver_sql(endless)
    monkeypatch.undo()
    assert queries.results(Which()).results


def test_the_account_of_everything_is_one_entry_a_day(queries: Queries) -> None:
    found = queries.account(Which(), Bucket.DAY)
    assert [(one.begin_ms, one.results, one.confidence) for one in found] == [
        (BEGIN_MS + day * DAY_MS, 12, 0.5) for day in range(3)
    ]
    assert {one.latency_us for one in found} == {70}
    assert {sum(one.latencies) for one in found} == {sum(one.confidences) for one in found} == {12}


@pytest.mark.parametrize(
    ("groups", "entries"),
    [
        ((), 3),
        ((Group.DEVICE,), 6),
        ((Group.VERSION,), 6),
        ((Group.LABEL,), 12),
        ((Group.SLOT,), 6),
        (tuple(Group), 36),
    ],
)
def test_the_account_is_told_apart_by_what_is_asked_and_loses_nothing(
    queries: Queries, groups: Sequence[Group], entries: int
) -> None:
    found = queries.account(Which(), Bucket.DAY, groups)
    assert len(found) == entries
    assert sum(one.results for one in found) == 36
    for group in Group:
        value = "version" if group is Group.VERSION else group.value
        assert all((getattr(one, value) is not None) == (group in groups) for one in found)


@pytest.mark.parametrize(
    ("which", "results"),
    [
        (Which(device="edge-1"), 24),
        (Which(version=2), 12),
        (Which(slot="doors"), 12),
        (Which(label=3), 9),
        (Which(source="camera-1"), 24),
        (Which(from_ms=BEGIN_MS + DAY_MS), 24),
        (Which(from_ms=BEGIN_MS + 59_999), 36),  # the whole minute
        (Which(from_ms=BEGIN_MS + MINUTE_MS), 24),
        (Which(to_ms=BEGIN_MS + 1), 12),
        (Which(to_ms=BEGIN_MS), 0),
    ],
)
def test_the_account_is_of_what_is_meant(queries: Queries, which: Which, results: int) -> None:
    assert sum(one.results for one in queries.account(which, Bucket.MINUTE)) == results


@pytest.mark.parametrize(
    ("which", "results"),
    [(Which(to_ms=YEAR_9999_MS), 36), (Which(from_ms=YEAR_9999_MS), 0), (Which(from_ms=YEAR_1_MS), 36)],
)
@pytest.mark.parametrize("groups", [(), (Group.LABEL,)])
def test_all_may_be_asked_for_by_the_calendars_ends(
    queries: Queries, which: Which, results: int, groups: Sequence[Group]
) -> None:
    assert sum(one.results for one in queries.account(which, Bucket.DAY, groups)) == results
    assert len(queries.results(which).results) == results


@pytest.mark.parametrize("name", ["device", "source", "model"])
def test_a_name_that_no_database_can_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidQuestion, match=rf"{name} 'a\\x00b' is not a name"):
        Which(**{name: "a\0b"})  # type: ignore[arg-type]


def test_the_account_is_not_kept_by_confidence(queries: Queries) -> None:
    with pytest.raises(InvalidQuestion, match="histogram"):
        queries.account(Which(min_confidence=0.5), Bucket.DAY)


@pytest.mark.parametrize("groups", [(), tuple(Group)])
def test_a_dashboard_reads_the_account_and_never_the_results(
    queries: Queries, database: Database, groups: Sequence[Group]
) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        queries.account(Which(device="edge-1", from_ms=BEGIN_MS), Bucket.HOUR, groups)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    questions = [(text, given_values) for text, given_values in asked if text.startswith("SELECT")]
    assert len(questions) == 1
    with database.reading() as connection:
        read = tables_read(connection, *questions[0])
    account = "result_minute_labels" if groups else "result_minutes"
    assert read == {account, "result_sources", "result_versions"}


def tables_read(connection: Any, statement: str, parameters: Any) -> set[str]:
    """The tables that the database reads, by its own plan."""
    if connection.dialect.name == "postgresql":
        plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
        return {str(node["Relation Name"]) for node in _nodes(plan[0]["Plan"]) if "Relation Name" in node}
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return {row[3].split()[1] for row in plan if row[3].split()[0] in ("SCAN", "SEARCH")}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


@given(st.lists(st.integers(0, 1000), min_size=LATENCY_BINS, max_size=LATENCY_BINS), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bin_that_holds_it(counts: list[int], q: float) -> None:
    found = latency_quantile_us(counts, q)
    if not sum(counts):
        assert found is None
        return
    assert found is not None
    edges = (0, *LATENCY_EDGES_US, 2 * LATENCY_EDGES_US[-1])
    below = sum(count for edge, count in zip(edges[1:], counts, strict=True) if edge < found)
    above = sum(count for edge, count in zip(edges[:-1], counts, strict=True) if edge >= found)
    assert below <= q * sum(counts) + 1e-6
    assert above <= (1 - q) * sum(counts) + 1e-6
