"""A cloud with a real database, and a small fleet that answers with real signatures, in virtual time."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import event, text

from cloud.fleet.entities import Presence
from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from cloud.registry.entities import ModelVersion, UnknownModel
from cloud.rollouts.entities import ACTIVE, Gates, Request, Rollout
from cloud.rollouts.service import Rollouts
from protos.kit import envelope
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Signed
from protos.v1.report_pb2 import (
    OUTCOME_COMMITTED,
    OUTCOME_REFUSED,
    UPDATE_STATE_COMMITTED,
    UPDATE_STATE_REFUSED,
    Receipt,
    Report,
    SlotState,
)

DIRECTOR = Ed25519PrivateKey.generate()
TRUSTED = {envelope.key_id(DIRECTOR.public_key()): DIRECTOR.public_key()}
TICK_MS = 1000


def sign(purpose: str, payload: bytes) -> Signed:
    return envelope.sign(purpose, payload, DIRECTOR)


def manifest_of(version: int) -> bytes:
    return hashlib.sha256(b"digits %d" % version).digest() if version else b""


class Catalogue:
    """Versions 1 to 9 of the model digits."""

    def get(self, model: str, version: int) -> ModelVersion:
        if model != "digits" or version > 9:
            raise UnknownModel(f"no {model} {version}")
        return ModelVersion(model, version, manifest_of(version), b"", b"", 0)


class Device:
    """Takes what is desired if it is genuine and newer, runs it or refuses it, and reports with its signature."""

    def __init__(self, name: str, site: str) -> None:
        self.name, self.site = name, site
        self.key = Ed25519PrivateKey.generate()
        self.running = b""
        self.generation = 0
        self.accepted: list[int] = []
        self.awake = True
        self.mute = False
        self.refuses: set[bytes] = set()
        self.slot = SlotState(slot="default")

    def read(self, signed: bytes, now_ms: int) -> None:
        deployment = Deployment.FromString(envelope.verify(envelope.DEPLOYMENT, envelope.parse(signed), TRUSTED))
        assert deployment.device == self.name
        assert deployment.expires_ms > now_ms
        if deployment.generation <= self.generation:
            return
        self.generation = deployment.generation
        self.accepted.append(deployment.generation)
        if not self.mute:
            self.answer(deployment)

    def answer(self, deployment: Deployment) -> None:
        refused = deployment.manifest in self.refuses
        if not refused:
            self.running = deployment.manifest
        receipt = Receipt(
            device=self.name,
            slot="default",
            generation=deployment.generation,
            manifest=deployment.manifest,
            outcome=OUTCOME_REFUSED if refused else OUTCOME_COMMITTED,
            reason="golden vector 0 differs" if refused else "",
        )
        self.slot = SlotState(
            slot="default",
            generation=deployment.generation,
            state=UPDATE_STATE_REFUSED if refused else UPDATE_STATE_COMMITTED,
            running=self.running,
            receipt=envelope.sign(envelope.RECEIPT, receipt.SerializeToString(), self.key),
        )

    def report(self, now_ms: int) -> Report:
        return Report(
            device=self.name,
            public_key=self.key.public_key().public_bytes_raw(),
            labels={"site": self.site},
            slots=[self.slot],
            reported_ms=now_ms,
        )


class World:
    """Cloud, database and devices."""

    def __init__(self, database_url: str, devices: int = 5) -> None:
        self.database = Database(database_url)
        if "sqlite" in database_url:
            # Here processes are killed, not machines: what is not on the disk yet is still in the system's hands.
            event.listen(self.database._engine, "connect", lambda driver, _: driver.execute("PRAGMA synchronous=OFF"))
        self.database.create()
        self.next_id = "r-1"
        self.fleet = Fleet(self.database)
        self.rollouts = self.new_process()
        self.now_ms = 1_800_000_000_000
        self.devices = {f"edge-{n}": Device(f"edge-{n}", "ab"[n % 2]) for n in range(1, devices + 1)}
        self.step: Callable[[], object] = lambda: self.rollouts.step(self.now_ms)
        self.devices_turn()

    def new_process(self) -> Rollouts:
        return Rollouts(self.database, Catalogue(), self.fleet, sign, 30, make_id=lambda: self.next_id)

    def create(self, version: int, *waves: str, gates: Gates | None = None, **selector: str) -> Rollout:
        request = Request("digits", version, waves or ("1", "rest"), selector, gates or Gates())
        created = self.rollouts.create(request, self.now_ms)
        self.next_id = f"r-{created.number + 1}"
        return created

    def devices_turn(self) -> None:
        for row in self.fleet.all_desired():
            device = self.devices[row.device]
            if device.awake:
                device.read(row.signed, self.now_ms)
        awake = [device for device in self.devices.values() if device.awake]
        news = [(Presence(device.name, online=True), device.report(self.now_ms)) for device in awake]
        assert self.fleet.take(itertools.chain(*news), self.now_ms) == []

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.now_ms += TICK_MS
            self.step()
            self.devices_turn()

    def until_end(self, rollout: Rollout, most: int = 50) -> Rollout:
        for _ in range(most):
            self.turns(1)
            if self.rollouts.get(rollout.id).state not in ACTIVE:
                return self.rollouts.get(rollout.id)
        raise AssertionError(f"{self.rollouts.get(rollout.id)} does not end")

    def running(self) -> set[bytes]:
        return {device.running for device in self.devices.values()}

    def desired(self) -> set[bytes]:
        return {row.manifest for row in self.fleet.all_desired()}

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        """All that a rollout writes, signatures and revisions apart."""
        columns = {
            "assignments": "device, slot, generation, manifest, rollout",
            "rollouts": "id, state, reason, wave",
            # By the rollout's name: numbers may have gaps.
            "rollouts JOIN rollout_members ON rollout = number": "id, device, rollout_members.wave, "
            "rollout_members.state, generation, rollout_members.reason, former_generation, former_manifest",
        }
        with self.database.reading() as connection:
            return {
                table: [tuple(row) for row in connection.execute(text(f"SELECT {names} FROM {table} ORDER BY 1, 2, 3"))]
                for table, names in columns.items()
            }
