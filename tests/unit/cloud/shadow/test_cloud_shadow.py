"""Challengers: to whom they go, what devices say of them, and what people see."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from cloud.foundation.show import emit
from cloud.registry.entities import ModelVersion, UnknownModel
from cloud.rollouts.service import Rollouts
from cloud.shadow import commands
from cloud.shadow.entities import BadComparison, NoDevices, Request, State
from cloud.shadow.routes import router
from cloud.shadow.service import Shadows
from protos.kit import envelope
from protos.kit.sketches import CHANGE_BINS, COST_BINS, cost_bin
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Signed
from protos.v1.report_pb2 import (
    UPDATE_STATE_COMMITTED,
    UPDATE_STATE_DOWNLOADING,
    UPDATE_STATE_REFUSED,
    Report,
    SlotState,
    UpdateState,
)
from protos.v1.sketches_pb2 import Comparison

DIRECTOR = Ed25519PrivateKey.generate()
TRUSTED = {envelope.key_id(DIRECTOR.public_key()): DIRECTOR.public_key()}
KEY = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
DAY_MS = 86_400_000


def manifest_of(version: int) -> bytes:
    return hashlib.sha256(b"digits %d" % version).digest()


class Catalogue:
    """Versions 1 to 9 of the model digits."""

    def get(self, model: str, version: int) -> ModelVersion:
        if model != "digits" or version > 9:
            raise UnknownModel(f"no {model} {version}")
        return ModelVersion(model, version, manifest_of(version), b"", b"", 0)

    def by_digest(self, manifest_digest: bytes) -> ModelVersion:
        for version in range(1, 10):
            if manifest_of(version) == manifest_digest:
                return self.get("digits", version)
        raise UnknownModel("no such version")


def sign(purpose: str, payload: bytes) -> Signed:
    return envelope.sign(purpose, payload, DIRECTOR)


class Site:
    """Three devices that run version 1: edge-1 and edge-2 at site a, edge-3 at site b."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fleet = Fleet(database)
        self.shadows = Shadows(database, Catalogue(), self.fleet, sign)
        self._at = 0
        for device in ("edge-1", "edge-2", "edge-3"):
            self.report(device)

    def report(self, device: str, *slots: SlotState, running: int = 1) -> None:
        self._at += 1
        main = SlotState(slot="default", running_model="digits", running_version=running)
        labels = {"site": "b" if device == "edge-3" else "a"}
        report = Report(device=device, public_key=KEY, labels=labels, slots=[main, *slots], reported_ms=self._at)
        assert self.fleet.observe(report, self._at) == []

    def says(self, device: str, state: UpdateState, generation: int = 1, reason: str = "") -> None:
        self.report(device, SlotState(slot="default.shadow", state=state, generation=generation, reason=reason))

    def deployment(self, device: str) -> Deployment:
        """The newest for the challenger's slot, as the device reads it."""
        desired = self.fleet.desired(device, "default.shadow")
        assert desired
        return Deployment.FromString(envelope.verify(envelope.DEPLOYMENT, envelope.parse(desired.signed), TRUSTED))

    def states(self) -> dict[str, tuple[State, str]]:
        return {one.challenge.device: (one.state, one.reason) for one in self.shadows.standings()}


@pytest.fixture
def site(new_database: Callable[[], str]) -> Iterator[Site]:
    database = Database(new_database())
    database.create()
    yield Site(database)
    database.close()


def comparison(generation: int = 1, champion: int = 1, challenger: int = 2, **fields: object) -> Comparison:
    made = Comparison(
        slot="default",
        generation=generation,
        champion=manifest_of(champion),
        challenger=manifest_of(challenger),
        offered=1000,
        compared=100,
        agreed=90,
        champion_label=[1, 1, 4],
        challenger_label=[1, 7, 9],
        pair_frames=[90, 7, 3],
        confidence_change=[0] * 10 + [100] + [0] * 10,
        champion_confidence=80.0,
        challenger_confidence=85.0,
    )
    for column, cost_us in ((made.champion_cost, 100.0), (made.challenger_cost, 50.0)):
        column.extend([0] * COST_BINS)
        column[cost_bin(cost_us)] = 100
    made.MergeFrom(Comparison(**fields))
    return made


WANTED = Request("digits", 2, 0.25)


def test_a_challenger_is_a_deployment_of_its_own_beside_the_champions(site: Site) -> None:
    site.shadows.start(Request("digits", 2, 0.25, {"site": "a"}), 1000)
    told = site.deployment("edge-1")
    assert (told.device, told.slot, told.shadow_share) == ("edge-1", "default.shadow", 0.25)
    assert (told.model, told.version, told.manifest) == ("digits", 2, manifest_of(2))
    assert (told.generation, told.issued_ms, told.expires_ms) == (1, 1000, 1000 + 30 * DAY_MS)
    assert site.fleet.desired("edge-1") is None
    assert site.fleet.desired("edge-3", "default.shadow") is None


def test_stopped_the_slot_of_the_challenger_is_to_run_no_model(site: Site) -> None:
    site.shadows.start(WANTED, 1000)
    site.shadows.take("edge-1", comparison(), 1500)
    stopped = site.shadows.stop(Request("digits", 2, devices=frozenset({"edge-1"})), 2000)
    told = site.deployment("edge-1")
    assert (told.generation, told.manifest, told.model, told.shadow_share) == (2, b"", "", 0)
    assert [(one.challenge.device, one.state) for one in stopped] == [("edge-1", State.STOPPED)]
    assert stopped[0].challenge.comparison.compared == 100
    assert site.states()["edge-2"][0] is State.REQUESTED


def test_started_again_it_is_a_new_generation_with_a_comparison_of_its_own(site: Site) -> None:
    site.shadows.start(WANTED, 1000)
    site.shadows.take("edge-1", comparison(), 1500)
    site.shadows.stop(WANTED, 2000)
    site.shadows.start(WANTED, 3000)
    site.shadows.take("edge-1", comparison(), 3500)  # a late word of generation 1
    (first, *_) = site.shadows.standings()
    assert (first.challenge.generation, first.challenge.comparison.compared, first.state) == (3, 0, State.REQUESTED)


def test_a_renewed_deployment_still_says_which_share(site: Site) -> None:
    site.shadows.start(WANTED, 1000)
    rollouts = Rollouts(site.database, Catalogue(), site.fleet, sign)
    assert rollouts.renew(20 * DAY_MS) == 3
    told = site.deployment("edge-1")
    assert (told.shadow_share, told.generation, told.manifest) == (0.25, 1, manifest_of(2))
    assert (told.issued_ms, told.expires_ms) == (20 * DAY_MS, 50 * DAY_MS)


def test_where_the_very_version_is_the_champion_it_is_no_challenger(site: Site) -> None:
    site.report("edge-1", running=2)
    assert [one.challenge.device for one in site.shadows.start(WANTED, 1000)] == ["edge-2", "edge-3"]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request("digits", 2, devices=frozenset({"edge-9"})), "no device edge-9 has reported"),
        (Request("digits", 2, selector={"site": "c"}), "no device has these labels"),
        (Request("digits", 1), "is the champion already"),
    ],
)
def test_a_challenger_for_nobody_is_refused(site: Site, request_: Request, says: str) -> None:
    with pytest.raises(NoDevices, match=says):
        site.shadows.start(request_, 1000)


def test_what_nobody_runs_cannot_be_stopped(site: Site) -> None:
    with pytest.raises(NoDevices, match="is no challenger on any of these devices"):
        site.shadows.stop(WANTED, 1000)


def test_an_unknown_version_is_said_to_be_unknown(site: Site) -> None:
    with pytest.raises(UnknownModel):
        site.shadows.start(Request("faces", 2), 1000)


def test_a_challengers_state_is_what_the_device_says_of_it(site: Site) -> None:
    site.shadows.start(WANTED, 1000)
    site.says("edge-1", UPDATE_STATE_COMMITTED)
    site.says("edge-2", UPDATE_STATE_REFUSED, reason="golden vectors: 4 of 4 wrong")
    site.says("edge-3", UPDATE_STATE_DOWNLOADING)
    assert site.states() == {
        "edge-1": (State.RUNNING, ""),
        "edge-2": (State.REFUSED, "golden vectors: 4 of 4 wrong"),
        "edge-3": (State.REQUESTED, ""),
    }
    site.shadows.take("edge-1", comparison(ended="the process was ended by SIGSEGV"), 2000)
    assert site.states()["edge-1"] == (State.ENDED, "the process was ended by SIGSEGV")


def test_what_a_device_said_of_an_earlier_deployment_is_not_this_ones_state(site: Site) -> None:
    site.shadows.start(WANTED, 1000)
    site.says("edge-1", UPDATE_STATE_COMMITTED)
    site.shadows.start(Request("digits", 3), 2000)
    assert site.states()["edge-1"] == (State.REQUESTED, "")


@pytest.mark.parametrize(
    "change",
    [
        {"agreed": 101},
        {"compared": 1001},
        {"offered": 2**60},
        {"pair_frames": [1]},
        {"pair_frames": [90], "champion_label": [1], "challenger_label": [2]},
        {"confidence_change": [0] * CHANGE_BINS},
        {"champion_confidence": float("nan")},
        {"ended": "e" * 20_000},
        {"slot": "No Name"},
    ],
    ids="-".join,
)
def test_a_comparison_that_contradicts_itself_is_not_believed(site: Site, change: dict[str, object]) -> None:
    site.shadows.start(WANTED, 1000)
    with pytest.raises(BadComparison):
        site.shadows.take("edge-1", comparison(**change), 2000)
    assert site.shadows.standings()[0].challenge.received_ms == 0


def test_a_challenger_that_was_never_given_is_not_kept(site: Site) -> None:
    site.shadows.take("edge-1", comparison(), 2000)
    site.shadows.start(WANTED, 1000)
    site.shadows.take("edge-1", comparison(challenger=3), 2000)
    assert site.shadows.standings()[0].challenge.received_ms == 0


def client(site: Site) -> TestClient:
    app = FastAPI()
    app.include_router(router(site.shadows, lambda: 5000))
    return TestClient(app)


def test_the_api_starts_shows_and_stops_a_challenger(site: Site) -> None:
    body = {"model": "digits", "version": 2, "share": 0.5, "selector": {"site": "a"}}
    started = client(site).post("/api/v1/shadow/start", json=body)
    assert started.status_code == 201
    assert [one["device"] for one in started.json()["devices"]] == ["edge-1", "edge-2"]
    for device in ("edge-1", "edge-2"):
        site.shadows.take(device, comparison(), 6000)
    found = client(site).get("/api/v1/shadow", params={"model": "digits", "version": 2}).json()
    (duel,) = found["duels"]
    assert (duel["champion"], duel["champion_version"], duel["version"], duel["devices"]) == ("digits", 1, 2, 2)
    assert (duel["compared"], duel["agreement"], duel["confidence_change"]) == (200, 0.9, pytest.approx(0.05))
    assert duel["champion_p50_us"] == pytest.approx(100, rel=0.2)
    assert duel["challenger_p95_us"] == pytest.approx(50, rel=0.2)
    assert duel["confusions"] == [
        {"champion": 1, "challenger": 7, "frames": 14},
        {"champion": 4, "challenger": 9, "frames": 6},
    ]
    stopped = client(site).post("/api/v1/shadow/stop", json={"model": "digits", "version": 2})
    assert {one["state"] for one in stopped.json()["devices"]} == {"stopped"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "faces", "version": 2}, 404),
        ({"model": "digits", "version": 2, "selector": {"site": "c"}}, 409),
        ({"model": "digits", "version": 2, "share": 0}, 422),
        ({"model": "digits", "version": 2, "share": 1.1}, 422),
    ],
)
def test_the_api_refuses_what_cannot_be_started(site: Site, body: dict[str, object], code: int) -> None:
    assert client(site).post("/api/v1/shadow/start", json=body).status_code == code


def test_people_see_both_and_where_they_disagree(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.shadows.start(WANTED, 1000)
    site.shadows.take("edge-1", comparison(), 2000)
    emit(client(site).get("/api/v1/shadow").json(), False, commands._draw)
    told = capsys.readouterr().out
    assert "90.00%" in told
    assert "Where they disagree" in told
    assert "requested" in told


def test_a_selector_has_the_form_of_a_label() -> None:
    result = CliRunner().invoke(commands.shadow, ["start", "digits", "2", "--selector", "site"])
    assert result.exit_code == 2
    assert "label=value" in result.output
