"""From a result to the frame that it speaks of, and from a frame that was sent to what models said of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, event

from cloud.foundation import client
from cloud.results_commands import results as results_group
from cloud.routes import create_api
from cloud.samples import store_links
from cloud.samples.commands import samples as samples_group
from cloud.samples.entities import Offer
from cloud.samples.routes import router
from cloud.uplink import query_routes
from cloud.uplink.consumers import Consumers
from cloud.uplink.consuming import Start
from cloud.uplink.entities import DAY_MS, Fate, ReceivedBatch
from cloud.uplink.export import export
from cloud.uplink.queries import Queries
from cloud.uplink.questions import Bucket, Found, InvalidQuestion, Sampled, Which
from cloud.uplink.service import Ingest
from protos.kit.columns import Results, encode
from tests.samples_cloud import FRAME_BYTES, SamplesCloud, samples_cloud

NOW_MS = 20_000 * DAY_MS
FRAME = b"\7" * FRAME_BYTES
DIGEST = hashlib.sha256(FRAME).digest()


@pytest.fixture
def cloud(database_url: str, tmp_path: Path) -> Iterator[SamplesCloud]:
    """Frames 1 to 5 of two cameras of two devices have results."""
    made = samples_cloud(database_url, tmp_path / "cloud")
    for device in ("edge-1", "edge-2"):
        for epoch, source in ((1, "camera"), (2, "door")):
            answer(made, device, source, epoch)
    yield made
    made.database.close()


@pytest.fixture
def queries(cloud: SamplesCloud) -> Queries:
    return Queries(cloud.database, store_links.of_frames)


def answer(cloud: SamplesCloud, device: str, source: str, epoch: int, slot: str = "default") -> None:
    """Five results of frames 1 to 5."""
    ingest = Ingest(cloud.database, cloud.known)
    manifest, frames = cloud.version.manifest_digest, np.arange(1, 6, dtype=np.uint64)
    columns = (frames, np.full(5, 6), np.full(5, 3, np.uint16), np.full(5, 0.25, np.float32), np.full(5, 70, np.uint32))
    data = encode(Results("digits", 1, manifest, source, *columns, slot=slot))
    stream = ingest.open(device, epoch).stream
    (outcome,) = ingest.commit([ReceivedBatch(stream, device, 1, 5, data, 0)], NOW_MS)
    assert outcome.fate is Fate.STORED


def send(cloud: SamplesCloud, device: str, source: str, frame: int) -> None:
    offer = Offer(
        DIGEST, FRAME_BYTES, source, frame, 6, "digits", 1, cloud.version.manifest_digest, 3, 0.25, "low confidence"
    )
    if not cloud.samples.offered(device, offer, NOW_MS).stored:
        assert cloud.samples.piece(device, offer, 0, FRAME, NOW_MS).stored


def linked(found: list[Found]) -> dict[tuple[str, str, int], Sampled]:
    return {(one.device, one.source, one.frame): one.sample for one in found if one.sample}


def test_a_result_names_the_sample_of_its_frame_and_no_other_result_does(cloud: SamplesCloud, queries: Queries) -> None:
    assert linked(list(queries.results(Which()).results)) == {}
    send(cloud, "edge-1", "camera", 3)
    send(cloud, "edge-2", "door", 3)
    send(cloud, "edge-2", "door", 9)  # whose result has not come
    assert linked(list(queries.results(Which()).results)) == {
        ("edge-1", "camera", 3): Sampled(1, DIGEST.hex()),
        ("edge-2", "door", 3): Sampled(2, DIGEST.hex()),
    }


def test_a_page_asks_once_for_the_samples_of_all_its_results(cloud: SamplesCloud, queries: Queries) -> None:
    asked: list[str] = []

    def note(_: Connection, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    send(cloud, "edge-1", "camera", 3)
    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert len(queries.results(Which()).results) == 20
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert sum("samples" in statement for statement in asked) == 1


def test_consumers_are_told_of_the_sample_too(cloud: SamplesCloud) -> None:
    send(cloud, "edge-1", "camera", 3)
    consumers = Consumers(cloud.database, store_links.of_frames)
    consumers.create("billing", Start.EARLIEST, NOW_MS)
    reading = consumers.read("billing", 100)
    assert reading is not None
    assert linked(list(reading.results)) == {("edge-1", "camera", 3): Sampled(1, DIGEST.hex())}


def test_an_export_names_the_samples(cloud: SamplesCloud, queries: Queries, tmp_path: Path) -> None:
    send(cloud, "edge-2", "camera", 5)
    which = Which(from_ms=NOW_MS, to_ms=NOW_MS + DAY_MS)
    assert export(queries, which, tmp_path / "all.parquet", lambda _: None) == 20
    rows = pq.read_table(tmp_path / "all.parquet").to_pylist()
    told = {(one["device"], one["source"], one["frame"]): (one["sample"], one["sample_digest"]) for one in rows}
    assert {key: value for key, value in told.items() if value != (None, None)} == {
        ("edge-2", "camera", 5): (1, DIGEST.hex())
    }


def test_the_export_command_names_them(cloud: SamplesCloud, database_url: str, tmp_path: Path) -> None:
    send(cloud, "edge-2", "camera", 5)
    file = str(tmp_path / "all.parquet")
    arguments = ["export", "--from", "2024-10-01", "-o", file, "--database", database_url]
    assert CliRunner().invoke(results_group, arguments).exit_code == 0
    assert [one for one in pq.read_table(file)["sample"].to_pylist() if one] == [1]


def test_from_a_sample_one_finds_what_every_slot_said_of_its_frame(
    cloud: SamplesCloud, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(cloud, "edge-1", "camera", 3, slot="second")
    send(cloud, "edge-1", "camera", 3)
    api = TestClient(create_api([router(cloud.samples, queries), query_routes.router(queries)], dict))
    found = api.get("/api/v1/samples/1/results").json()
    assert [(one["device"], one["source"], one["frame"], one["slot"]) for one in found] == [
        ("edge-1", "camera", 3, "second"),
        ("edge-1", "camera", 3, "default"),
    ]
    assert {json.dumps(one["sample"]) for one in found} == {json.dumps({"id": 1, "digest": DIGEST.hex()})}
    assert api.get("/api/v1/samples/2/results").status_code == 404
    monkeypatch.setattr(client.httpx, "Client", lambda **_: api)
    shown = CliRunner().invoke(samples_group, ["results", "1", "--json"])
    assert json.loads(shown.output) == found
    listed = CliRunner().invoke(results_group, ["list", "--limit", "1000"])
    assert "sample" in listed.output
    of_frame = ["list", "--device", "edge-1", "--source", "camera", "--frame", "3", "--json"]
    assert json.loads(CliRunner().invoke(results_group, of_frame).output)["results"] == found


@pytest.mark.parametrize("asked", [{}, {"device": "edge-1"}, {"source": "camera"}])
def test_a_frame_belongs_to_a_source_of_a_device(asked: dict[str, str]) -> None:
    with pytest.raises(InvalidQuestion, match="say device and source"):
        Which(frame=3, **asked)  # type: ignore[arg-type]


def test_the_account_knows_no_frames(queries: Queries) -> None:
    with pytest.raises(InvalidQuestion, match="not kept by frame"):
        queries.account(Which("edge-1", "camera", frame=3), Bucket.DAY)
