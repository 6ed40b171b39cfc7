"""Questions about results over HTTP, and the commands against a real server."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from click.testing import CliRunner, Result
from fastapi import FastAPI
from test_cloud_uplink_service import batch, known, payload

from cloud.foundation.database import Database
from cloud.results_commands import results
from cloud.uplink import consumer_routes, query_routes, routes
from cloud.uplink.consumers import Consumers
from cloud.uplink.entities import DAY_MS
from cloud.uplink.queries import Queries
from cloud.uplink.service import Ingest

BEGIN_MS = 20_000 * DAY_MS  # 2024-10-04


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    database = Database(f"sqlite:///{tmp_path}/littoral.db")
    database.create()
    yield Ingest(database, known)
    database.close()


@pytest.fixture
def address(ingest: Ingest) -> Iterator[str]:
    database, api = ingest._database, FastAPI()
    for router in (
        routes.router(ingest),
        query_routes.router(Queries(database)),
        consumer_routes.router(Consumers(database)),
    ):
        api.include_router(router)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(api, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{address}/api/v1", trust_env=False, timeout=60) as client:
        yield client


def store(ingest: Ingest, first: int, labels: list[int], device: str = "edge-1", at_ms: int = BEGIN_MS) -> None:
    opened = ingest.open(device, 2**60 + 1)
    ingest.commit([batch(opened, first, payload(first, labels), len(labels), device=device)], at_ms)


def run(address: str, *arguments: str) -> Result:
    shown = CliRunner().invoke(results, [*arguments, "--api", address])
    assert shown.exit_code == 0, shown.output
    return shown


def test_results_come_in_pages_until_there_is_no_next(ingest: Ingest, client: httpx.Client) -> None:
    store(ingest, 1, [0, 1, 2, 3, 4])
    seqs, cursor = [], None
    while True:
        asked = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/results", params=asked).json()
        seqs += [one["seq"] for one in page["results"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seqs == [5, 4, 3, 2, 1]


def test_a_result_tells_everything(ingest: Ingest, client: httpx.Client) -> None:
    store(ingest, 1, [7])
    assert client.get("/results").json()["results"] == [
        {
            "device": "edge-1",
            "epoch": str(2**60 + 1),
            "seq": 1,
            "source": "camera",
            "frame": 1,
            "slot": "default",
            "model": "digits",
            "version": 1,
            "label": 7,
            "confidence": 0.5,
            "latency_us": 70,
            "captured_us": 5,
            "received_ms": BEGIN_MS,
            "sample": None,
        }
    ]


def test_a_time_without_a_zone_is_utc(ingest: Ingest, client: httpx.Client) -> None:
    store(ingest, 1, [7])
    for begin, count in (("2024-10-04", 1), ("2024-10-04T00:00:01", 0), ("2024-10-04T02:00:00+02:00", 1)):
        assert len(client.get("/results", params={"from": begin}).json()["results"]) == count


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/results", {"cursor": "nonsense"}),
        ("/results", {"label": "-1"}),
        ("/results", {"from": "yesterday"}),
        ("/results", {"limit": "1001"}),
        ("/results", {"min_confidence": "2"}),
        ("/results/aggregates", {"bucket": "week"}),
        ("/results/aggregates", {"group": "weather"}),
        ("/results/aggregates", {"min_confidence": "0.5"}),
        ("/consumers/billing/results", {"wait_s": "31"}),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_the_reason(
    client: httpx.Client, path: str, wrong: dict[str, str]
) -> None:
    answer = client.get(path, params=wrong)
    assert answer.status_code == 422
    (name,) = wrong
    assert name.removeprefix("min_") in str(answer.json()["detail"])


def test_aggregates_tell_counts_quantiles_and_histograms(ingest: Ingest, client: httpx.Client) -> None:
    store(ingest, 1, [1, 1, 2])
    answer = client.get("/results/aggregates", params={"bucket": "day", "group": ["device", "version"]}).json()
    (entry,) = answer["entries"]
    assert (entry["begin_ms"], entry["device"], entry["model"], entry["version"]) == (BEGIN_MS, "edge-1", "digits", 1)
    assert (entry["results"], entry["confidence_mean"], entry["latency_mean_us"]) == (3, 0.5, 70)
    assert 64 <= entry["latency_p50_us"] <= entry["latency_p99_us"] <= 128
    assert len(entry["latency_histogram"]) == len(answer["latency_edges_us"]) + 1
    by_label = client.get("/results/aggregates", params={"group": "label"}).json()["entries"]
    assert [(one["label"], one["results"]) for one in by_label] == [(1, 2), (2, 1)]


def test_a_consumer_is_created_reads_acknowledges_and_is_forgotten(ingest: Ingest, client: httpx.Client) -> None:
    store(ingest, 1, [1, 2, 3])
    assert client.post("/consumers", json={"name": "billing"}).status_code == 200
    reading = client.get("/consumers/billing/results", params={"limit": 2}).json()
    assert [one["seq"] for one in reading["results"]] == [1, 2]
    assert client.post("/consumers/billing/ack", json={"ack": reading["ack"]}).status_code == 200
    (known_one,) = client.get("/consumers").json()
    assert (known_one["name"], known_one["behind"]) == ("billing", 1)
    assert client.delete("/consumers/billing").status_code == 200
    for answer in (
        client.get("/consumers/billing/results"),
        client.post("/consumers/billing/ack", json={"ack": reading["ack"]}),
        client.delete("/consumers/billing"),
    ):
        assert (answer.status_code, answer.json()["detail"].startswith("there is no consumer")) == (404, True)
    assert client.post("/consumers", json={"name": "No Name"}).status_code == 422


def test_a_reading_waits_for_the_first_result(ingest: Ingest, client: httpx.Client) -> None:
    client.post("/consumers", json={"name": "billing"})
    assert client.get("/consumers/billing/results").json() == {"results": [], "ack": None}
    answers: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(client.get("/consumers/billing/results", params={"wait_s": 30}))
    )
    waiting.start()
    store(ingest, 1, [4])
    waiting.join()
    assert [one["label"] for one in answers[0].json()["results"]] == [4]


def test_the_list_is_a_table_that_says_how_to_go_on(ingest: Ingest, address: str) -> None:
    store(ingest, 1, [7, 8])
    shown = run(address, "list", "--device", "edge-1", "--limit", "1").output
    assert "2024-10-04 00:00:00.000" in shown
    assert "--cursor" in shown
    whole = json.loads(run(address, "list", "--label", "7", "--json").output)
    assert [one["label"] for one in whole["results"]] == [7]
    assert whole["next"] is None


def test_the_aggregates_are_a_table(ingest: Ingest, address: str) -> None:
    store(ingest, 1, [7, 8])
    store(ingest, 1, [7], device="edge-2", at_ms=BEGIN_MS + DAY_MS)
    shown = run(address, "aggregates", "--bucket", "day", "--group", "device", "--group", "label").output
    assert re.findall(r"edge-\d", shown) == ["edge-1", "edge-1", "edge-2"]
    found = json.loads(run(address, "aggregates", "--from", "2024-10-05", "--json").output)
    assert [one["results"] for one in found["entries"]] == [1]


def test_following_prints_every_result_once_and_goes_on_where_it_ended(ingest: Ingest, address: str) -> None:
    store(ingest, 1, [1, 2, 3])
    first = run(address, "follow", "billing", "--once", "--limit", "2").output.splitlines()
    assert [json.loads(line)["seq"] for line in first] == [1, 2, 3]
    store(ingest, 4, [4])
    assert [json.loads(line)["seq"] for line in run(address, "follow", "billing", "--once").output.splitlines()] == [4]
    assert json.loads(run(address, "consumers", "--json").output)[0]["behind"] == 0
    assert json.loads(run(address, "consumers", "--remove", "billing", "--json").output) == []
