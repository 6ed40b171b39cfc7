"""Truths, summary and audit over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cloud.foundation.database import Database
from cloud.uplink.entities import KnownVersion, ReceivedBatch
from cloud.uplink.routes import router
from cloud.uplink.service import Ingest
from protos.kit.columns import Results, encode


def known(digest: bytes) -> KnownVersion | None:
    return KnownVersion("faces" if digest == b"f" * 32 else "digits", 1, classes=10)


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    database = Database(f"sqlite:///{tmp_path}/littoral.db")
    database.create()
    yield Ingest(database, known)
    database.close()


@pytest.fixture
def client(ingest: Ingest) -> TestClient:
    app = FastAPI()
    app.include_router(router(ingest))
    return TestClient(app)


def commit(ingest: Ingest, first_seq: int, labels: list[int], model: str = "digits") -> None:
    n = len(labels)
    results = Results(
        model=model,
        version=1,
        manifest=model[:1].encode() * 32,
        source="camera",
        frame=np.arange(first_seq, first_seq + n, dtype=np.uint64),
        captured_us=np.zeros(n, np.int64),
        label=np.array(labels, np.uint16),
        confidence=np.ones(n, np.float32),
        latency_us=np.ones(n, np.uint32),
    )
    stream = ingest.open("edge-1", 1).stream
    ingest.commit([ReceivedBatch(stream, "edge-1", first_seq, n, encode(results), first_seq - 1)], 1)


def test_truths_and_results_meet_in_the_summary(client: TestClient, ingest: Ingest) -> None:
    truths = {"device": "edge-1", "source": "camera", "first_frame": 1, "labels": [1, 2, 3]}
    assert client.post("/api/v1/truths", json=truths).json() == {"accepted": 3}
    commit(ingest, 1, [1, 7])
    assert client.get("/api/v1/summary").json() == {
        "sent": 3,
        "stored": 2,
        "lost": 1,
        "duplicated": 0,
        "results_total": 2,
        "skipped": 0,
        "quarantined": 0,
        "model": "digits",
        "accuracy": {"1": 0.5},
        "results_per_version": {"1": 2},
    }


@pytest.mark.parametrize(
    "wrong", [{"device": "No Name"}, {"first_frame": 0}, {"labels": []}, {"labels": [70_000]}, {"labels": "123"}]
)
def test_wrong_truths_are_refused_with_the_reason(client: TestClient, wrong: dict[str, object]) -> None:
    truths = {"device": "edge-1", "source": "camera", "first_frame": 1, "labels": [1]} | wrong
    answer = client.post("/api/v1/truths", json=truths)
    assert answer.status_code == 422
    assert next(iter(wrong)) in str(answer.json()["detail"])


def test_a_summary_over_several_models_asks_for_one(client: TestClient, ingest: Ingest) -> None:
    commit(ingest, 1, [1])
    commit(ingest, 2, [1], model="faces")
    answer = client.get("/api/v1/summary")
    assert answer.status_code == 422
    assert "digits, faces" in answer.json()["detail"]
    assert client.get("/api/v1/summary", params={"model": "faces"}).json()["results_per_version"] == {"1": 1}


def test_the_audit_is_told_by_device(client: TestClient, ingest: Ingest) -> None:
    commit(ingest, 1, [1, 2])
    (one,) = client.get("/api/v1/audit/results").json()
    assert (one["device"], one["sent"], one["stored"], one["lost"], one["doubled"]) == ("edge-1", 2, 2, 0, 0)
