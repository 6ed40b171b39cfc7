"""What Prometheus is told, over HTTP and by each room."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from cloud.rollouts.entities import State
from cloud.rollouts.metrics import RolloutStates
from cloud.routes import create_api
from cloud.uplink import metrics
from cloud.uplink.entities import Books, Fate, Outcome, ReceivedBatch
from protos.kit.kinds import Kind
from protos.topics import MAX_BATCH_ROWS


def scraped() -> dict[tuple[str, str], float]:
    """Samples by name and all labels."""
    answer = TestClient(create_api([], dict)).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, " ".join(s.labels.values())): s.value for family in families for s in family.samples}


def test_metrics_of_the_process_and_of_the_rooms_are_told() -> None:
    names = {name for name, _ in scraped()}
    assert {"process_resident_memory_bytes", "littoral_database_up", "littoral_uplink_streams"} <= names


def test_open_metrics_is_told_to_who_asks_for_it() -> None:
    asked = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = TestClient(create_api([], dict)).get("/metrics", headers=asked)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_every_reason_and_fate_is_there_before_it_ever_happened() -> None:
    found = scraped()
    for fate in ("stored", "duplicate", "quarantined", "detached"):
        for kind in Kind:
            assert ("littoral_uplink_rows_total", f"{fate} {kind}") in found
    for reason in ("quota", "database"):
        assert ("littoral_uplink_delays_total", reason) in found


def test_a_transaction_is_counted_by_what_became_of_its_batches() -> None:
    before = scraped()
    fates = [Fate.STORED, Fate.STORED, Fate.DUPLICATE, Fate.QUARANTINED]
    batches = [ReceivedBatch(1, "edge-1", 1, count, b"", 0) for count in (100, 20, 3, 2**32 - 1)]
    batches.append(ReceivedBatch(1, "edge-1", 0, 0, b"", 0, Books(1)))
    batches.append(ReceivedBatch(2, "edge-1", 1, 7, b"", 0, kind=Kind.EVENTS))
    metrics.committed(batches, [Outcome(fate, 0) for fate in [*fates, Fate.NOTED, Fate.STORED]], 0.02)
    after = scraped()
    grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    expected = {
        ("littoral_uplink_batches_total", "stored results"): 2,
        ("littoral_uplink_batches_total", "stored events"): 1,
        ("littoral_uplink_batches_total", "duplicate results"): 1,
        ("littoral_uplink_batches_total", "quarantined results"): 1,
        ("littoral_uplink_rows_total", "stored results"): 120,
        ("littoral_uplink_rows_total", "stored events"): 7,
        ("littoral_uplink_rows_total", "duplicate results"): 3,
        ("littoral_uplink_rows_total", "quarantined results"): MAX_BATCH_ROWS,  # no batch has more, whatever it says
        ("littoral_uplink_commit_rows_sum", ""): 127,
        ("littoral_uplink_commit_rows_count", ""): 1,
        ("littoral_uplink_commit_seconds_count", ""): 1,
    }
    assert expected.items() <= grown.items()


def collected(states: RolloutStates) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(states)
    return {one.labels["state"]: one.value for family in registry.collect() for one in family.samples}


def test_rollouts_are_told_by_state_also_those_that_none_is_in() -> None:
    found = collected(RolloutStates(lambda: {State.RUNNING: 2}))
    assert found == {"running": 2, "paused": 0, "succeeded": 0, "failed": 0, "aborted": 0, "superseded": 0}


def test_a_database_that_fails_costs_no_other_metric() -> None:
    def counts() -> Mapping[State, int]:
        raise OSError("gone")

    before = scraped().get(("littoral_database_errors_total", "metrics"), 0)
    assert collected(RolloutStates(counts)) == {}
    assert scraped()["littoral_database_errors_total", "metrics"] == before + 1
