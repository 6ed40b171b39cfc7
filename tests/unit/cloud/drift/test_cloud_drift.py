"""Devices' sketches beside their models' references: what is believed, since when a device drifts, what people see."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cloud.drift import commands
from cloud.drift.entities import HOUR_MS, BadDrift, JudgedHour, Stretch, TooMuch
from cloud.drift.routes import router
from cloud.drift.service import Drifts
from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from cloud.foundation.show import emit
from cloud.registry.entities import ModelVersion, UnknownModel
from protos.kit.differences import Thresholds
from protos.kit.sketches import Tally
from protos.v1.manifest_pb2 import Manifest
from protos.v1.report_pb2 import Report
from protos.v1.sketches_pb2 import Drift, Reference, Sketch

CLASSES = 4
EVEN = [0.25] * CLASSES
SKEWED = [0.85, 0.05, 0.05, 0.05]


def sketch(shares: list[float] = EVEN, count: int = 1000, seed: int = 1) -> Sketch:
    random = np.random.default_rng(seed)
    tally = Tally(CLASSES, 1)
    labels = random.choice(CLASSES, count, p=shares).astype(np.uint16)
    tally.add(labels, (1 - random.beta(1, 30, count)).astype(np.float32))
    return tally.sketch()


class Catalogue:
    """Versions of the model digits, with and without a reference."""

    def __init__(self) -> None:
        self._versions: dict[bytes, ModelVersion] = {}

    def add(self, version: int, *references: Reference) -> bytes:
        payload = Manifest(model="digits", version=version, references=references).SerializeToString()
        digest = hashlib.sha256(payload).digest()
        self._versions[digest] = ModelVersion("digits", version, digest, payload, b"", 0)
        return digest

    def by_digest(self, manifest_digest: bytes) -> ModelVersion:
        if manifest_digest not in self._versions:
            raise UnknownModel("no such version")
        return self._versions[manifest_digest]


@pytest.fixture
def database(new_database: Callable[[], str]) -> Iterator[Database]:
    made = Database(new_database())
    made.create()
    fleet = Fleet(made)
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for device in ("edge-1", "edge-2"):
        fleet.observe(Report(device=device, public_key=key, reported_ms=1), 1)
    yield made
    made.close()


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture
def manifest(catalogue: Catalogue) -> bytes:
    return catalogue.add(1, Reference(variant="int8", sketch=sketch(count=10_000)))


@pytest.fixture
def drifts(database: Database, catalogue: Catalogue) -> Drifts:
    return Drifts(database, catalogue, Thresholds())


def drift(manifest: bytes, seen: Sketch | None = None, **fields: object) -> Drift:
    told = {"slot": "default", "model": "lies", "version": 9, "manifest": manifest, "variant": "int8", "began_ms": 5}
    return Drift(sketch=seen or sketch(seed=2), **told | fields)


def test_a_window_like_the_reference_is_shown_and_no_drift(drifts: Drifts, manifest: bytes) -> None:
    drifts.take("edge-1", drift(manifest), 1000)
    (window,) = drifts.devices()
    assert (window.device, window.model, window.version, window.variant) == ("edge-1", "digits", 1, "int8")
    assert (window.since_ms, window.alarm, window.difference.frames) == (0, "", 1000)
    assert window.difference.labels_psi < 0.05


def test_a_device_drifts_since_its_first_window_that_differs_until_one_that_does_not(
    drifts: Drifts, manifest: bytes
) -> None:
    since = []
    for now_ms, shares in ((1000, EVEN), (2000, SKEWED), (3000, SKEWED), (4000, EVEN), (5000, SKEWED)):
        drifts.take("edge-1", drift(manifest, sketch(shares, seed=now_ms)), now_ms)
        since.append(drifts.devices()[0].since_ms)
    assert since == [0, 2000, 2000, 0, 5000]


def test_a_new_model_begins_anew(drifts: Drifts, catalogue: Catalogue, manifest: bytes) -> None:
    other = catalogue.add(2, Reference(variant="int8", sketch=sketch(count=10_000, seed=7)))
    drifts.take("edge-1", drift(manifest, sketch(SKEWED)), 1000)
    drifts.take("edge-1", drift(other, sketch(SKEWED)), 2000)
    assert [(window.version, window.since_ms) for window in drifts.devices()] == [(2, 2000)]


def test_small_differences_of_many_devices_are_seen_together(drifts: Drifts, manifest: bytes) -> None:
    few = [0.55, 0.15, 0.15, 0.15]
    for device, seed in (("edge-1", 3), ("edge-2", 4)):
        drifts.take(device, drift(manifest, sketch(few, 20, seed)), 1000)
    windows = drifts.devices()
    (model,) = drifts.models(windows)
    assert (model.model, model.version, model.devices, model.difference.frames) == ("digits", 1, 2, 40)
    assert model.difference.labels_p < min(window.difference.labels_p for window in windows)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"slot": "No Name"}, "slot"),
        ({"variant": "float32"}, "no reference for variant"),
        ({"manifest": b"x" * 32}, "no model version"),
        ({"seen": Sketch(frames=5, labels=[5])}, "bins of confidence"),
        ({"alarm": "a" * 20_000}, "bytes"),
    ],
)
def test_what_cannot_be_believed_is_not_kept(
    drifts: Drifts, manifest: bytes, change: dict[str, object], says: str
) -> None:
    fields: dict[str, object] = {"manifest": manifest, "seen": None} | change
    message = drift(fields.pop("manifest"), fields.pop("seen"), **fields)  # type: ignore[arg-type]
    with pytest.raises(BadDrift, match=says):
        drifts.take("edge-1", message, 1000)
    assert drifts.devices() == []


def test_a_device_that_never_reported_is_not_kept_and_a_forgotten_one_is_gone(
    database: Database, drifts: Drifts, manifest: bytes
) -> None:
    drifts.take("edge-9", drift(manifest), 1000)
    drifts.take("edge-1", drift(manifest), 1000)
    assert [window.device for window in drifts.devices()] == ["edge-1"]
    Fleet(database).forget("edge-1")
    assert drifts.devices() == []


def client(drifts: Drifts) -> TestClient:
    app = FastAPI()
    app.include_router(router(drifts))
    return TestClient(app)


def test_the_api_tells_devices_and_models(drifts: Drifts, manifest: bytes) -> None:
    drifts.take("edge-1", drift(manifest, sketch(SKEWED)), 1000)
    drifts.take("edge-2", drift(manifest), 1000)
    found = client(drifts).get("/api/v1/drift").json()
    assert [(one["device"], one["since_ms"]) for one in found["devices"]] == [("edge-1", 1000), ("edge-2", None)]
    assert found["devices"][0]["alarm"].startswith("labels differ (PSI ")
    assert [(one["devices"], one["drifting"]) for one in found["models"]] == [(2, 1)]
    only = client(drifts).get("/api/v1/drift", params={"device": "edge-2", "model": "digits"}).json()
    assert [one["device"] for one in only["devices"]] == ["edge-2"]
    assert client(drifts).get("/api/v1/drift", params={"model": "faces"}).json() == {"devices": [], "models": []}


def test_people_see_what_drifts_first(drifts: Drifts, manifest: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    drifts.take("edge-2", drift(manifest, sketch(SKEWED)), 86_400_000)
    drifts.take("edge-1", drift(manifest), 1000)
    emit(client(drifts).get("/api/v1/drift").json(), False, commands._draw)
    told = capsys.readouterr().out
    assert told.index("edge-2") < told.index("edge-1")
    assert "1970-01-02 00:00:00+00:00" in told


def test_without_an_api_the_command_says_what_to_do() -> None:
    result = CliRunner().invoke(commands.drift, ["--api", "http://127.0.0.1:9", "--json"])
    assert result.exit_code == 1
    assert "littoral serve" in result.output


def hours(drifts: Drifts, **which: object) -> list[JudgedHour]:
    return list(drifts.hours(Stretch(**{"first_hour": 0, "last_hour": 100} | which)))  # type: ignore[arg-type]


def test_windows_of_an_hour_are_added_up_by_device_and_for_all_devices(drifts: Drifts, manifest: bytes) -> None:
    for number, (device, minute) in enumerate((("edge-1", 0), ("edge-1", 59), ("edge-2", 30), ("edge-1", 60))):
        drifts.take(device, drift(manifest, sketch(seed=number)), 5 * HOUR_MS + minute * 60_000)
    told = [(one.seen.hour, one.seen.windows, one.difference.frames) for one in hours(drifts)]
    assert told == [(5, 3, 3000), (6, 1, 1000)]
    (first, second) = hours(drifts, device="edge-1")
    assert (first.seen.device, first.seen.slot, first.seen.windows) == ("edge-1", "default", 2)
    assert (second.seen.hour, second.seen.windows) == (6, 1)


def test_an_hour_that_differs_stays_in_the_account_when_the_next_does_not(drifts: Drifts, manifest: bytes) -> None:
    for hour, shares in ((1, EVEN), (2, SKEWED), (3, EVEN)):
        drifts.take("edge-1", drift(manifest, sketch(shares, seed=hour)), hour * HOUR_MS)
    assert [bool(one.alarm) for one in hours(drifts)] == [False, True, False]


def test_the_account_is_told_apart_by_model_version(drifts: Drifts, catalogue: Catalogue, manifest: bytes) -> None:
    other = catalogue.add(2, Reference(variant="int8", sketch=sketch(count=10_000, seed=7)))
    for digest in (manifest, other, other):
        drifts.take("edge-1", drift(digest), HOUR_MS)
    assert sorted((one.seen.version, one.seen.windows) for one in hours(drifts)) == [(1, 1), (2, 2)]
    assert hours(drifts, model="faces") == []


def test_only_the_hours_that_are_asked_for_are_told(drifts: Drifts, manifest: bytes) -> None:
    for hour in range(5):
        drifts.take("edge-1", drift(manifest), hour * HOUR_MS)
    assert [one.seen.hour for one in hours(drifts, first_hour=1, last_hour=3)] == [1, 2, 3]


def test_the_account_goes_after_as_many_whole_days_as_it_is_kept(drifts: Drifts, manifest: bytes) -> None:
    for hour in (0, 23, 24, 47, 48):
        drifts.take("edge-1", drift(manifest), hour * HOUR_MS)
    assert drifts.expire(49 * HOUR_MS, days=1) == 4
    assert [one.seen.hour for one in hours(drifts)] == [24, 47, 48]


def test_a_device_that_never_reported_is_in_no_account(drifts: Drifts, manifest: bytes) -> None:
    drifts.take("edge-9", drift(manifest), HOUR_MS)
    assert hours(drifts) == []


def test_more_than_one_answer_holds_is_refused_with_advice(
    drifts: Drifts, manifest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.drift.service.MOST_HOURS", 2)
    for hour in range(3):
        drifts.take("edge-1", drift(manifest), hour * HOUR_MS)
    with pytest.raises(TooMuch, match="shorter time"):
        hours(drifts)


def test_the_account_over_the_api(drifts: Drifts, manifest: bytes) -> None:
    for hour in (1, 2):
        drifts.take("edge-1", drift(manifest, sketch(SKEWED)), hour * HOUR_MS)
    asked = {"from": "1970-01-01T02:30:00", "device": "edge-1"}
    (told,) = client(drifts).get("/api/v1/drift/history", params=asked).json()
    assert (told["begin_ms"], told["device"], told["slot"], told["model"]) == (
        2 * HOUR_MS,
        "edge-1",
        "default",
        "digits",
    )
    assert (told["windows"], told["frames"]) == (1, 1000)
    assert "labels" in told["alarm"]


def test_people_see_the_account_hour_by_hour(
    drifts: Drifts, manifest: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    drifts.take("edge-1", drift(manifest, sketch(SKEWED)), 2 * HOUR_MS)
    emit(client(drifts).get("/api/v1/drift/history").json(), False, commands._draw_history)
    told = capsys.readouterr().out
    assert "1970-01-01 02:00" in told
    assert "all" in told
