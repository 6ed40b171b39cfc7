"""What was set aside is listed in pages, and stored under its own numbers once it can be: once, and accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event, select
from test_cloud_uplink_service import batch, known, payload

from cloud.events.service import Events
from cloud.foundation import client
from cloud.foundation.database import Database
from cloud.results_commands import results as results_group
from cloud.routes import create_api
from cloud.uplink import rules, tables
from cloud.uplink.consumers import Consumers
from cloud.uplink.consuming import Start, as_word_of_returned
from cloud.uplink.entities import (
    DAY_MS,
    Aside,
    Fate,
    KnownVersion,
    Opened,
    ReceivedBatch,
    StreamState,
    UnknownBatch,
)
from cloud.uplink.quarantine import Quarantine
from cloud.uplink.quarantine_commands import quarantine as quarantine_group
from cloud.uplink.quarantine_routes import router
from cloud.uplink.queries import Queries
from cloud.uplink.questions import Bucket, InvalidQuestion, Which
from cloud.uplink.service import Ingest
from protos.kit.kinds import Kind
from protos.v1.uplink_pb2 import Event, EventBatch

NOW_MS = 20_000 * DAY_MS
LATER_MS = NOW_MS + 5 * DAY_MS
STRANGE = 5
"""A version that is not registered until somebody does it."""


@dataclass
class Registered:
    """What the registry knows; version 5 may be registered later."""

    strange: bool = False

    def __call__(self, digest: bytes) -> KnownVersion | None:
        return known(digest) or (KnownVersion("digits", STRANGE, 10) if self.strange else None)


@dataclass
class Cloud:
    database: Database
    registered: Registered = field(default_factory=Registered)

    def __post_init__(self) -> None:
        takers = {Kind.EVENTS: Events(self.database)}
        self.ingest = Ingest(self.database, self.registered, takers)
        self.quarantine = Quarantine(self.database, self.registered, takers)

    def commit(self, *batches: ReceivedBatch, now_ms: int = NOW_MS) -> list[Fate]:
        return [outcome.fate for outcome in self.ingest.commit(batches, now_ms)]

    def rows(self) -> list[tuple[int, int, int, int]]:
        """Number, frame, label and receipt of each stored result."""
        r = tables.results.c
        with self.database.reading() as connection:
            found = connection.execute(select(r.seq, r.frame, r.label, r.received_ms).order_by(r.seq))
            return [tuple(row) for row in found]

    def balance(self, kind: Kind = Kind.RESULTS) -> tuple[int, int, int, int]:
        """Stored, quarantined, lost and doubled."""
        (one,) = self.ingest.audit(kind)
        return one.stored, one.quarantined, one.lost, one.doubled


@pytest.fixture
def cloud(database_url: str) -> Iterator[Cloud]:
    database = Database(database_url)
    database.create()
    yield Cloud(database)
    database.close()


@pytest.fixture
def opened(cloud: Cloud) -> Opened:
    return cloud.ingest.open("edge-1", 7)


def strange(opened: Opened, first: int, labels: Sequence[int], *, previous: int | None = None) -> ReceivedBatch:
    return batch(opened, first, payload(first, labels, version=STRANGE), len(labels), previous=previous)


def test_what_can_be_stored_meanwhile_is_stored_under_its_old_numbers(cloud: Cloud, opened: Opened) -> None:
    fates = cloud.commit(strange(opened, 1, [4, 5]), batch(opened, 3, payload(3, [6]), 1))
    assert fates == [Fate.QUARANTINED, Fate.STORED]
    assert cloud.balance() == (1, 2, 0, 0)
    cloud.registered.strange = True
    assert cloud.quarantine.retry(1).stored == 2
    assert cloud.rows() == [(1, 1, 4, NOW_MS), (2, 2, 5, NOW_MS), (3, 3, 6, NOW_MS)]
    assert cloud.balance() == (3, 0, 0, 0)
    assert cloud.quarantine.page(10) == []
    assert cloud.ingest.open("edge-1", 7).watermark == 3


def test_only_what_was_new_in_the_batch_is_stored(cloud: Cloud, opened: Opened) -> None:
    cloud.commit(batch(opened, 1, payload(1, [1, 2]), 2), strange(opened, 1, [7, 8, 9], previous=0))
    assert cloud.balance() == (2, 1, 0, 0)
    cloud.registered.strange = True
    assert cloud.quarantine.retry(1).stored == 1
    assert [row[:3] for row in cloud.rows()] == [(1, 1, 1), (2, 2, 2), (3, 3, 9)]
    assert cloud.balance() == (3, 0, 0, 0)


def test_what_still_cannot_be_stored_stays_with_the_newest_reason(cloud: Cloud, opened: Opened) -> None:
    cloud.commit(strange(opened, 1, [4, 12]))
    cloud.registered.strange = True
    tried = cloud.quarantine.retry(1)
    assert (tried.stored, "label 12" in tried.reason) == (0, True)
    (kept,) = cloud.quarantine.page(10)
    assert (kept.reason, kept.count, kept.received_ms) == (tried.reason, 2, NOW_MS)
    assert cloud.balance() == (0, 2, 0, 0)


def test_a_batch_without_usable_numbers_is_never_stored(cloud: Cloud, opened: Opened) -> None:
    cloud.commit(replace(strange(opened, 1, [4]), first_seq=2**62 + 1, previous=0))
    cloud.registered.strange = True
    assert "no run of numbers" in cloud.quarantine.retry(1).reason
    assert cloud.balance() == (0, 0, 0, 0)
    assert len(cloud.quarantine.page(10)) == 1


def test_a_batch_is_stored_once_however_many_try_at_once(cloud: Cloud, opened: Opened) -> None:
    cloud.commit(strange(opened, 1, [4, 5]))
    cloud.registered.strange = True

    def retry(_: int) -> int:
        try:
            return cloud.quarantine.retry(1).stored
        except UnknownBatch:
            return 0

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(retry, range(8))) == 2
    assert cloud.balance() == (2, 0, 0, 0)
    with pytest.raises(UnknownBatch, match="no batch 1"):
        cloud.quarantine.retry(1)


def test_the_same_batch_from_its_device_again_changes_nothing_after_that(cloud: Cloud, opened: Opened) -> None:
    cloud.commit(strange(opened, 1, [4, 5]))
    cloud.registered.strange = True
    cloud.quarantine.retry(1)
    assert cloud.commit(strange(opened, 1, [4, 5])) == [Fate.DUPLICATE]
    assert cloud.balance() == (2, 0, 0, 0)


def test_a_retry_that_ends_at_any_of_its_statements_changes_nothing(cloud: Cloud, opened: Opened) -> None:
    consumers = Consumers(cloud.database)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    cloud.commit(strange(opened, 1, [4, 5]))
    assert seqs(consumers) == []  # it has passed them
    cloud.registered.strange = True
    for fatal in count(1):
        try:
            with ending_at(fatal):
                assert cloud.quarantine.retry(1).stored == 2
        except OSError:
            assert (cloud.balance(), behind(consumers)) == ((0, 2, 0, 0), 0)
        else:
            break
    assert fatal > 10  # it found, locked, named, took out, gave back, wrote, accounted and moved
    assert cloud.balance() == (2, 0, 0, 0)
    assert seqs(consumers) == [1, 2]


@contextmanager
def ending_at(fatal: int) -> Iterator[None]:
    """The statement of this number, counted from 1, is not answered any more."""
    numbers = count(1)

    def end(*_: object) -> None:
        if next(numbers) == fatal:
            raise OSError("the connection is gone")

    event.listen(Engine, "before_cursor_execute", end)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", end)


def test_it_is_accounted_for_in_the_minute_in_which_it_came(cloud: Cloud, opened: Opened) -> None:
    cloud.commit(strange(opened, 1, [4, 5]))
    cloud.registered.strange = True
    cloud.quarantine.retry(1)
    (entry,) = Queries(cloud.database).account(Which(version=STRANGE), Bucket.MINUTE)
    assert (entry.begin_ms, entry.results) == (NOW_MS, 2)


def test_retention_takes_it_for_as_old_as_it_is(cloud: Cloud, opened: Opened) -> None:
    cloud.commit(strange(opened, 1, [4, 5]))
    cloud.commit(batch(opened, 3, payload(3, [6]), 1), now_ms=LATER_MS)
    cloud.ingest.expire(LATER_MS, days=1)
    cloud.registered.strange = True
    assert cloud.quarantine.retry(1).stored == 2  # the day's partition has gone, and is made anew
    assert cloud.balance() == (3, 0, 0, 0)
    assert cloud.ingest.expire(LATER_MS, days=1) == 2
    assert [row[0] for row in cloud.rows()] == [3]
    assert cloud.balance() == (1, 0, 0, 0)


def test_other_kinds_can_be_tried_again_too(cloud: Cloud) -> None:
    stream = cloud.ingest.open("edge-1", 7, Kind.EVENTS).stream
    data = EventBatch(events=[Event(kind="update.committed", happened_ms=NOW_MS)]).SerializeToString()
    aside = ReceivedBatch(stream, "edge-1", 1, 1, b"\xff", 0, kind=Kind.EVENTS)
    assert cloud.commit(aside) == [Fate.QUARANTINED]
    assert cloud.quarantine.retry(1).reason
    with cloud.database.transaction() as connection:  # as if a newer Littoral had learned to read it
        connection.execute(tables.quarantine.update().values(payload=data))
    assert cloud.quarantine.retry(1).stored == 1
    assert cloud.balance(Kind.EVENTS) == (1, 0, 0, 0)


def seqs(consumers: Consumers, limit: int = 100) -> list[int]:
    """What a consumer is told until there is nothing more."""
    found: list[int] = []
    while reading := consumers.read("billing", limit):
        found += [one.seq for one in reading.results]
        consumers.acknowledge("billing", reading.ack, NOW_MS)
    return found


def behind(consumers: Consumers) -> int:
    (one,) = consumers.every()
    return one.behind


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_consumers_that_had_passed_it_get_it(cloud: Cloud, opened: Opened, limit: int) -> None:
    consumers = Consumers(cloud.database)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    cloud.commit(strange(opened, 1, [4, 5, 6]), batch(opened, 4, payload(4, [6]), 1))
    assert seqs(consumers) == [4]
    cloud.registered.strange = True
    cloud.quarantine.retry(1)
    assert behind(consumers) == 3
    assert seqs(consumers, limit) == [1, 2, 3]
    assert behind(consumers) == 0


def test_a_consumer_that_was_reading_meanwhile_gets_it(cloud: Cloud, opened: Opened) -> None:
    consumers = Consumers(cloud.database)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    cloud.commit(strange(opened, 1, [4, 5]), batch(opened, 3, payload(3, [6]), 1))
    reading = consumers.read("billing", 100)
    cloud.registered.strange = True
    cloud.quarantine.retry(1)
    assert reading is not None
    consumers.acknowledge("billing", reading.ack, NOW_MS)  # it passes the numbers, and has not had them
    assert seqs(consumers) == [1, 2]


def test_what_was_dropped_by_then_holds_no_consumer_up(cloud: Cloud, opened: Opened) -> None:
    consumers = Consumers(cloud.database)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    cloud.commit(strange(opened, 1, [4, 5]))
    cloud.registered.strange = True
    cloud.quarantine.retry(1)
    cloud.ingest.expire(LATER_MS, days=1)
    assert seqs(consumers) == []
    assert behind(consumers) == 0


def test_a_consumer_that_is_forgotten_leaves_nothing_to_its_successor(cloud: Cloud, opened: Opened) -> None:
    consumers = Consumers(cloud.database)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    cloud.commit(strange(opened, 1, [4, 5]))
    cloud.registered.strange = True
    cloud.quarantine.retry(1)
    consumers.remove("billing")
    consumers.create("billing", Start.LATEST, NOW_MS)
    assert seqs(consumers) == []


@pytest.mark.parametrize(
    "word", ["e30=", "eyJyZXR1cm5lZCI6W119", "eyJyZXR1cm5lZCI6W1sxLDJdXX0=", "eyJyZXR1cm5lZCI6MX0="]
)
def test_a_word_that_acknowledges_nothing_returned_is_refused(cloud: Cloud, word: str) -> None:
    consumers = Consumers(cloud.database)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    for one in (word, as_word_of_returned({(2**31, 1): 1}), as_word_of_returned({(1, 2**63): 1})):
        with pytest.raises(InvalidQuestion, match="acknowledges nothing"):
            consumers.acknowledge("billing", one, NOW_MS)


@given(st.integers(0, 100), st.integers(0, 50), st.integers(-5, 120), st.integers(0, 60))
def test_taking_back_keeps_the_watermark_and_never_counts_below_nothing(
    watermark: int, set_aside: int, first_seq: int, count: int
) -> None:
    before = StreamState(watermark, 0, set_aside)
    aside = Aside(1, 1, "edge-1", Kind.RESULTS, first_seq, count, 0, b"", NOW_MS)
    after, reason = rules.take_back(before, aside)
    assert after.watermark == watermark
    if reason:
        assert after == before
    else:
        assert 0 < count <= set_aside
        assert 0 < first_seq <= first_seq + count - 1 <= watermark
        assert after.set_aside == set_aside - count


@pytest.fixture
def api(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """The API, which commands ask too."""
    made = TestClient(create_api([router(cloud.quarantine)], dict))
    monkeypatch.setattr(client.httpx, "Client", lambda **_: made)
    return made


@pytest.fixture
def five(cloud: Cloud, opened: Opened) -> None:
    """Batches 1 to 5: four of edge-1, one of them events, and one of edge-2."""
    other, events = cloud.ingest.open("edge-2", 9), cloud.ingest.open("edge-1", 7, Kind.EVENTS)
    cloud.commit(*(strange(opened, seq, [4]) for seq in (1, 2)))
    cloud.commit(ReceivedBatch(events.stream, "edge-1", 1, 1, b"\xff", 0, kind=Kind.EVENTS))
    cloud.commit(replace(strange(other, 1, [4]), device="edge-2"))
    cloud.commit(batch(opened, 3, b"\xff\xff", 2))


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("asked", "ids"),
    [({}, [5, 4, 3, 2, 1]), ({"device": "edge-1"}, [5, 3, 2, 1]), ({"kind": "results"}, [5, 4, 2, 1])],
)
def test_pages_have_every_batch_once_newest_first(
    api: TestClient, limit: int, asked: dict[str, str], ids: list[int]
) -> None:
    found: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.get("/api/v1/quarantine", params={"limit": limit, **asked, **cursor}).json()
        found += [one["id"] for one in page["batches"]]
        if page["next"] is None:
            break
        assert len(page["batches"]) == limit
        cursor = {"cursor": page["next"]}
    assert found == ids


@pytest.mark.usefixtures("five")
def test_a_batch_is_told_with_its_reason_and_handed_out_as_it_came(api: TestClient) -> None:
    assert api.get("/api/v1/quarantine", params={"limit": 1}).json()["batches"] == [
        {
            "id": 5,
            "device": "edge-1",
            "kind": "results",
            "epoch": "7",
            "first_seq": "3",
            "count": 2,
            "reason": "not a ResultBatch",
            "bytes": 2,
            "received_ms": NOW_MS,
        }
    ]
    assert api.get("/api/v1/quarantine/5/payload").content == b"\xff\xff"
    for missing in (api.get("/api/v1/quarantine/6/payload"), api.post("/api/v1/quarantine/6/retry")):
        assert (missing.status_code, missing.json()["detail"]) == (404, "there is no batch 6 in quarantine")
    assert api.get("/api/v1/quarantine", params={"cursor": "?"}).status_code == 422


@pytest.mark.usefixtures("five", "api")
def test_commands_try_again_what_they_are_told(cloud: Cloud) -> None:
    runner = CliRunner()
    cloud.registered.strange = True
    one = runner.invoke(quarantine_group, ["retry", "2", "--json"])
    assert (one.exit_code, json.loads(one.output)) == (0, [{"id": 2, "stored": 1, "reason": None}])
    rest = runner.invoke(quarantine_group, ["retry", "--all", "--device", "edge-1", "--json"])
    assert [(tried["id"], tried["stored"]) for tried in json.loads(rest.output)] == [(1, 1), (3, 0), (5, 0)]
    assert rest.exit_code == 1
    assert [kept.id for kept in cloud.quarantine.page(10)] == [5, 4, 3]
    assert [row[0] for row in cloud.rows()] == [1, 2]


@pytest.mark.usefixtures("five", "api")
@pytest.mark.parametrize("arguments", [[], ["1", "--all"], ["1", "--device", "edge-1"], ["--device", "edge-1"]])
def test_the_command_wants_to_know_which(arguments: list[str]) -> None:
    shown = CliRunner().invoke(quarantine_group, ["retry", *arguments])
    assert (shown.exit_code, "say which" in shown.output) == (2, True)


@pytest.mark.usefixtures("five", "api")
def test_commands_list_pages_and_write_bytes(tmp_path: Path) -> None:
    runner = CliRunner()
    page = json.loads(runner.invoke(quarantine_group, ["list", "--limit", "2", "--json"]).output)
    assert [one["id"] for one in page["batches"]] == [5, 4]
    shown = runner.invoke(quarantine_group, ["list", "--cursor", page["next"], "--kind", "results"])
    assert ("edge-1" in shown.output, "edge-2" in shown.output) == (True, False)
    for group, command in ((quarantine_group, "get"), (results_group, "quarantine")):
        file = tmp_path / f"{command}.bin"
        assert runner.invoke(group, [command, "5", "-o", str(file)]).exit_code == 0
        assert file.read_bytes() == b"\xff\xff"
    for wrong in (["5"], ["-o", str(file)], ["9", "-o", str(file)]):
        assert runner.invoke(results_group, ["quarantine", *wrong]).exit_code != 0
    listed = json.loads(runner.invoke(results_group, ["quarantine", "--json"]).output)
    assert [one["id"] for one in listed] == [5, 4, 3, 2, 1]
