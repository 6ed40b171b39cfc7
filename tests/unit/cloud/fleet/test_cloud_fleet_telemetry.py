"""What devices measured, interval by interval: kept, found again, and the newest of each in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from cloud.cli import littoral
from cloud.fleet import rules, telemetry_routes
from cloud.fleet.service import Fleet
from cloud.fleet.telemetry import TelemetryHistory
from cloud.foundation.arriving import Arrived
from cloud.foundation.client import Api
from cloud.foundation.clocks import AHEAD_MS, EARLIEST_MS
from cloud.foundation.database import Database
from protos.kit.columns import Malformed
from protos.topics import MAX_INTERVALS
from protos.v1.report_pb2 import Report
from protos.v1.uplink_pb2 import Machine, Telemetry, TelemetryBatch

NOW_MS = EARLIEST_MS + 1_000_000_000


class Site:
    """One device that has reported, and what it measures."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fleet = Fleet(database)
        self.history = TelemetryHistory(database)
        self.fleet.observe(Report(device="edge-1", public_key=b"k" * 32), 1)
        app = FastAPI()
        app.include_router(telemetry_routes.router(self.fleet, self.history))
        self.http = TestClient(app)

    def arrive(self, first_seq: int, *intervals: Telemetry, device: str = "edge-1", now_ms: int = NOW_MS) -> None:
        with self.database.beside() as transaction:
            self.history.write(transaction, [Arrived(device, 1, first_seq, intervals)], now_ms)

    def newest(self) -> int:
        """Inferences of the newest telemetry."""
        telemetry = self.fleet.device("edge-1").telemetry
        assert telemetry
        return telemetry.inferences

    def page(self, device: str = "edge-1", **asked: object) -> dict[str, Any]:
        named = {name.rstrip("_"): value for name, value in asked.items()}
        answer = self.http.get(f"/api/v1/devices/{device}/telemetry", params=named)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    database = Database(database_url)
    database.create()
    yield Site(database)
    database.close()


def measured(at_ms: int, inferences: int) -> Telemetry:
    return Telemetry(measured_ms=at_ms, inferences=inferences, interval_s=1)


def numbers(page: dict[str, Any]) -> list[int]:
    return [one["inferences"] for one in page["intervals"]]


def test_all_intervals_are_found_again_newest_first_page_after_page(site: Site) -> None:
    for first in range(1, 21, 4):
        site.arrive(first, *(measured(NOW_MS + n, n) for n in range(first, first + 4)))
    page = site.page(limit=8)
    found = numbers(page)
    while page["next"]:
        page = site.page(limit=8, cursor=page["next"])
        found += numbers(page)
    assert found == list(range(20, 0, -1))


def test_times_asked_for_are_by_the_devices_clock(site: Site) -> None:
    site.arrive(1, *(measured(EARLIEST_MS + n * 1000, n) for n in range(10)))
    assert numbers(site.page(from_="2026-01-01T00:00:03", to="2026-01-01T00:00:06")) == [5, 4, 3]


def test_an_interval_tells_what_the_device_and_its_machine_told(site: Site) -> None:
    machine = Machine(processor=0.5, memory=9, temperature_c=40)
    told = Telemetry(measured_ms=NOW_MS, interval_s=2, latency_p95_us=80, model="digits", version=3, machine=machine)
    told.slots.add(slot="audio", inferences=4)
    site.arrive(1, told, now_ms=NOW_MS + 5)
    (interval,) = site.page()["intervals"]
    shown = {name: interval[name] for name in ("measured_ms", "received_ms", "interval_s", "latency_p95_us", "model")}
    assert shown == {
        "measured_ms": NOW_MS,
        "received_ms": NOW_MS + 5,
        "interval_s": 2,
        "latency_p95_us": 80,
        "model": "digits",
    }
    assert (interval["health"]["processor"], interval["health"]["temperature_c"]) == (0.5, 40)
    assert [slot["slot"] for slot in interval["health"]["slots"]] == ["audio"]


def test_a_device_that_tells_nothing_of_its_machine_has_intervals_without_health(site: Site) -> None:
    site.arrive(1, measured(NOW_MS, 1))
    assert site.page()["intervals"][0]["health"] is None


def test_the_newest_of_what_came_is_what_the_device_is_shown_with(site: Site) -> None:
    site.arrive(1, *(measured(NOW_MS + n, n) for n in range(5)))
    assert site.newest() == 4


def test_what_was_measured_earlier_and_comes_later_is_history_alone(site: Site) -> None:
    machine = Machine(processor=0.5)
    site.arrive(1, Telemetry(measured_ms=NOW_MS + 9, inferences=9, machine=machine))
    site.arrive(2, Telemetry(measured_ms=NOW_MS + 3, inferences=3, machine=Machine(processor=0.25)))
    health = site.fleet.health("edge-1")
    assert health
    assert (site.newest(), health.processor) == (9, 0.5)
    assert numbers(site.page()) == [9, 3]


def test_what_an_older_agent_says_without_numbers_does_not_go_over_what_is_newer_either(site: Site) -> None:
    site.arrive(1, measured(NOW_MS + 9, 9))
    site.fleet.telemetry("edge-1", measured(NOW_MS + 3, 3), NOW_MS)
    assert site.newest() == 9
    site.fleet.telemetry("edge-1", measured(NOW_MS + 10, 10), NOW_MS)
    assert site.newest() == 10
    assert numbers(site.page()) == [9]


def test_once_a_clock_that_was_ahead_is_right_again_what_comes_is_the_newest(site: Site) -> None:
    site.arrive(1, measured(NOW_MS + 2 * AHEAD_MS, 1))
    site.arrive(2, measured(NOW_MS + 1, 2))
    assert site.newest() == 2


def test_of_a_clock_that_was_never_set_what_comes_last_is_the_newest(site: Site) -> None:
    site.arrive(1, measured(900_000, 1))
    site.arrive(2, measured(5_000, 2))  # it was started again
    assert site.newest() == 2


DAY_MS = 86_400_000


@pytest.mark.parametrize("measured_ms", [NOW_MS - DAY_MS, 900_000])
def test_what_was_received_long_ago_and_is_stored_after_all_is_history_alone(site: Site, measured_ms: int) -> None:
    """As a batch from quarantine is: it keeps the time of its receipt."""
    site.arrive(2, measured(NOW_MS, 2))
    site.arrive(1, measured(measured_ms, 1), now_ms=NOW_MS - DAY_MS)
    assert site.newest() == 2
    assert numbers(site.page()) == [2, 1]


def test_a_clock_that_was_ahead_is_known_by_when_it_was(site: Site) -> None:
    site.arrive(1, measured(NOW_MS + 2 * AHEAD_MS, 1))
    later = NOW_MS + 3 * AHEAD_MS // 2
    site.arrive(2, measured(later, 2), now_ms=later)
    assert site.newest() == 2


def test_of_a_device_that_has_not_reported_the_history_is_kept(site: Site) -> None:
    site.arrive(1, measured(NOW_MS, 7), device="edge-2")
    assert numbers(site.page("edge-2")) == [7]


def test_a_device_that_nobody_knows_is_not_found_and_one_without_history_has_none(site: Site) -> None:
    assert site.http.get("/api/v1/devices/edge-9/telemetry").status_code == 404
    assert site.page() == {"intervals": [], "next": None}


@pytest.mark.parametrize("asked", [{"cursor": "nonsense"}, {"limit": 0}, {"from": "now"}])
def test_what_is_asked_wrongly_of_a_history_is_refused(site: Site, asked: dict[str, Any]) -> None:
    assert site.http.get("/api/v1/devices/edge-1/telemetry", params=asked).status_code == 422


@pytest.mark.parametrize("device", ["a%00b", "x" * 64])
def test_what_can_be_no_device_is_refused(site: Site, device: str) -> None:
    assert site.http.get(f"/api/v1/devices/{device}/telemetry").status_code == 422


def test_the_command_shows_a_table_and_prints_one_document(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(_: Api, path: str, params: dict[str, Any] | None = None) -> Any:
        return site.http.get(path, params=params).json()

    monkeypatch.setattr(Api, "get", get)
    machine = Machine(processor=0.5, temperature_c=40)
    site.arrive(1, measured(2**62, 5), Telemetry(measured_ms=NOW_MS, inferences=4242, interval_s=1, machine=machine))
    shown = CliRunner().invoke(littoral, ["devices", "telemetry", "edge-1"])
    assert shown.exit_code == 0, shown.output
    for part in ("4242", "50%", "40.0 °C", f"{2**62} ms"):
        assert part in shown.output
    document = CliRunner().invoke(littoral, ["devices", "telemetry", "edge-1", "--limit", "1", "--json"])
    assert json.loads(document.output) == site.page(limit=1)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_of_telemetry_has_as_many_intervals_as_its_envelope_says(count: int) -> None:
    payload = TelemetryBatch(intervals=[Telemetry(), Telemetry()]).SerializeToString()
    with pytest.raises(Malformed, match=f"2 intervals, the envelope says {count}"):
        rules.read_intervals(payload, count)


def test_a_batch_of_telemetry_has_not_too_many_intervals() -> None:
    payload = TelemetryBatch(intervals=[Telemetry()] * (MAX_INTERVALS + 1)).SerializeToString()
    with pytest.raises(Malformed, match="513 intervals"):
        rules.read_intervals(payload, MAX_INTERVALS + 1)


@given(st.binary(max_size=200), st.integers(0, 2**32))
def test_whatever_comes_is_intervals_or_malformed(payload: bytes, count: int) -> None:
    try:
        intervals = rules.read_intervals(payload, count)
    except Malformed:
        return
    assert len(intervals) == count


@given(st.integers(EARLIEST_MS, NOW_MS), st.integers(EARLIEST_MS, NOW_MS))
def test_while_clocks_are_right_the_later_measured_is_the_newer(one_ms: int, other_ms: int) -> None:
    assert rules.replaces(one_ms, NOW_MS, other_ms, NOW_MS) == (one_ms >= other_ms)
