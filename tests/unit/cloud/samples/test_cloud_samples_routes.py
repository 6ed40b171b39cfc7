"""Policies and samples over HTTP, and what the commands make of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from cloud.foundation import client
from cloud.routes import create_api
from cloud.samples.commands import Size, samples
from cloud.samples.entities import Offer
from cloud.samples.files import picture
from cloud.samples.routes import router
from cloud.uplink.queries import Queries
from tests.samples_cloud import FRAME_BYTES, SHAPE, SamplesCloud, samples_cloud

FRAME = bytes(range(200)) * 200
POLICY = {"model": "digits", "below": 0.5, "bytes_per_day": 1000}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SamplesCloud]:
    made = samples_cloud(f"sqlite:///{tmp_path}/littoral.db", tmp_path / "cloud")
    yield made
    made.database.close()


@pytest.fixture
def api(cloud: SamplesCloud) -> TestClient:
    return TestClient(create_api([router(cloud.samples, Queries(cloud.database))], dict))


@pytest.fixture
def sample(cloud: SamplesCloud) -> int:
    digest, manifest = hashlib.sha256(FRAME).digest(), cloud.version.manifest_digest
    offer = Offer(digest, FRAME_BYTES, "camera", 7, 5, "digits", 1, manifest, 3, 0.25, "low confidence")
    assert cloud.samples.piece("edge-1", offer, 0, FRAME, 1000).stored
    return 1


@pytest.fixture
def littoral(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Commands whose API is this process's."""
    monkeypatch.setattr(client.httpx, "Client", lambda **_: api)
    return CliRunner()


def test_a_policy_is_set_shown_and_removed(api: TestClient) -> None:
    made = api.put("/api/v1/sample-policies/unsure", json=POLICY)
    assert made.status_code == 200
    assert made.json() == {"name": "unsure", "selector": {}, "disagreement": False, "share": 0.0, **POLICY}
    assert api.get("/api/v1/sample-policies").json() == [made.json()]
    assert api.delete("/api/v1/sample-policies/unsure").status_code == 204
    gone = api.delete("/api/v1/sample-policies/unsure")
    assert (gone.status_code, "no sample policy 'unsure'" in gone.json()["detail"]) == (404, True)


@pytest.mark.parametrize("wrong", [{"below": 2}, {"bytes_per_day": 0}, {"below": 0}, {"more": 1}])
def test_a_policy_that_cannot_be_followed_is_refused(api: TestClient, wrong: dict[str, object]) -> None:
    assert api.put("/api/v1/sample-policies/unsure", json=POLICY | wrong).status_code == 422
    assert api.get("/api/v1/sample-policies").json() == []


@pytest.mark.usefixtures("sample")
def test_a_sample_is_listed_with_all_that_is_known_of_it(api: TestClient) -> None:
    (found,) = api.get("/api/v1/samples", params={"device": "edge-1", "source": "camera", "frame": 7}).json()
    assert found == {
        "id": 1,
        "device": "edge-1",
        "source": "camera",
        "frame": 7,
        "model": "digits",
        "version": 1,
        "label": 3,
        "confidence": 0.25,
        "reason": "low confidence",
        "captured_us": 5,
        "received_ms": 1000,
        "digest": hashlib.sha256(FRAME).hexdigest(),
        "bytes": FRAME_BYTES,
        "shape": list(SHAPE),
        "result": None,
    }
    assert api.get("/api/v1/samples/1").json() == found
    assert api.get("/api/v1/samples/1/frame").content == FRAME
    assert api.get("/api/v1/samples", params={"frame": 8}).json() == []


@pytest.mark.parametrize("path", ["/api/v1/samples/2", "/api/v1/samples/2/frame"])
def test_a_sample_that_is_not_there_is_said_to_be_so(api: TestClient, path: str) -> None:
    assert api.get(path).status_code == 404


def test_commands_set_and_show_policies(littoral: CliRunner) -> None:
    made = littoral.invoke(
        samples, ["policy", "set", "unsure", "--below", "0.6", "--selector", "site=a", "--budget", "5MB", "--json"]
    )
    assert json.loads(made.output)["bytes_per_day"] == 5_000_000
    listed = littoral.invoke(samples, ["policy", "list"])
    assert "site=a" in listed.output
    assert littoral.invoke(samples, ["policy", "remove", "unsure"]).exit_code == 0
    assert json.loads(littoral.invoke(samples, ["policy", "list", "--json"]).output) == []


@pytest.mark.usefixtures("sample")
def test_commands_list_samples_and_write_them_as_files(littoral: CliRunner, tmp_path: Path) -> None:
    assert "low confidence" in littoral.invoke(samples, ["list"]).output
    folder = tmp_path / "got"
    told = littoral.invoke(samples, ["get", "--output", str(folder), "--json"])
    assert json.loads(told.output)["samples"] == 1
    assert (folder / "edge-1-camera-7-v1.pgm").read_bytes() == b"P5 200 200 255\n" + FRAME
    (line,) = (folder / "samples.jsonl").read_text().splitlines()
    assert json.loads(line)["file"] == "edge-1-camera-7-v1.pgm"
    again = littoral.invoke(samples, ["get", "1", "--output", str(folder), "--json"])
    assert again.output == told.output


@pytest.mark.parametrize(("text", "size"), [("5000", 5000), ("5MB", 5_000_000), ("2 MiB", 2 << 20), ("1k", 1000)])
def test_a_size_may_have_a_unit(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size


def test_a_size_that_is_none_is_refused_with_an_example() -> None:
    with pytest.raises(click.BadParameter, match="for example"):
        Size().convert("much", None, None)


@pytest.mark.parametrize(
    ("shape", "suffix", "head"),
    [
        ((2, 3), ".pgm", b"P5 3 2 255\n"),
        ((2, 3, 1), ".pgm", b"P5 3 2 255\n"),
        ((2, 1, 3), ".ppm", b"P6 1 2 255\n"),
        ((2, 3, 1, 1), ".npy", b"\x93NUMPY"),
        ((), ".npy", b"\x93NUMPY"),
    ],
)
def test_a_frame_becomes_the_picture_that_its_shape_allows(shape: tuple[int, ...], suffix: str, head: bytes) -> None:
    found, data = picture(bytes(6), shape)
    assert found == suffix
    assert data.startswith(head)
