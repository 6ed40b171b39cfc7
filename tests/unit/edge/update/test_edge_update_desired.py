"""Desired state is believed by the keys that fresh metadata names, whenever that comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.delivery.entities import NotDelivered
from edge.delivery.trust_client import Keys
from edge.foundation.clock import EARLIEST_MS
from edge.inference.service import Inference
from edge.models.service import ModelStore
from edge.update import mqtt
from edge.update.memory import Memory
from edge.update.mqtt import MOST_WAITING, DesiredState
from edge.update.requirements import Facts
from edge.update.service import Updater
from edge.update.steps import Limits, Steps
from edge.uplink.outbox import Outbox
from protos import topics
from protos.kit import envelope
from protos.kit.link import Address, Link
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Signed
from tests.unit.edge.update.test_edge_update_service import Shelf, prove_here

FORMER, PRESENT = (Ed25519PrivateKey.generate() for _ in range(2))
TOPIC = topics.desired("edge-1")


@dataclass
class Metadata:
    """Whose deployments count, and whether metadata comes at all."""

    believed: list[Ed25519PrivateKey] = field(default_factory=lambda: [PRESENT])
    here: asyncio.Event = field(default_factory=asyncio.Event)
    away: bool = False
    refreshed: int = 0

    async def directors(self) -> Keys:
        self.refreshed += 1
        if self.away:
            raise NotDelivered("no metadata")
        await self.here.wait()
        return {envelope.key_id(key.public_key()): key.public_key() for key in self.believed}


def deployment(generation: int, key: Ed25519PrivateKey = PRESENT, **changed: object) -> bytes:
    fields: dict[str, object] = {"device": "edge-1", "slot": "default", "generation": generation}
    made = Deployment(**{**fields, "issued_ms": EARLIEST_MS, "expires_ms": EARLIEST_MS + 10_000, **changed})  # type: ignore[arg-type]
    return envelope.sign(envelope.DEPLOYMENT, made.SerializeToString(), key).SerializeToString()


Scenario = Callable[[DesiredState, Metadata, Updater], Awaitable[None]]


def play(folder: Path, scenario: Scenario) -> None:
    async def life() -> None:
        outbox = Outbox.open(folder / "outbox.sqlite", 2**20)
        (folder / "shelf").mkdir()
        store = ModelStore.open(folder / "models", "default")
        facts = Facts("x86_64", "1", None)
        steps = Steps(Shelf(folder / "shelf"), store, Inference(outbox), Limits(0, 1, 1), facts, prove=prove_here)
        updater = Updater("edge-1", Memory(folder, "default"), steps, sign, lambda: EARLIEST_MS)
        metadata = Metadata()
        desired = DesiredState(Link(Address("127.0.0.1", 9), "edge-1"), updater, "edge-1", "default", metadata)
        await desired.listen()
        tasks = [asyncio.create_task(desired.run()), asyncio.create_task(updater.run())]
        async with asyncio.timeout(30):
            await scenario(desired, metadata, updater)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        outbox.close()

    asyncio.run(life())


def sign(purpose: str, payload: bytes) -> Signed:
    return envelope.sign(purpose, payload, PRESENT)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the state is polled as a person would look at it
        await asyncio.sleep(0.005)


def test_a_deployment_waits_for_metadata_and_is_carried_out_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "RETRY_S", 0.01)

    async def scenario(desired: DesiredState, metadata: Metadata, updater: Updater) -> None:
        metadata.away = True
        desired._take(TOPIC, deployment(1))
        await until(lambda: metadata.refreshed > 2)
        assert updater.update.generation == 0
        metadata.away = False
        metadata.here.set()
        await until(lambda: updater.update.generation == 1)

    play(tmp_path, scenario)


def test_a_key_that_metadata_names_no_more_deploys_nothing_and_a_new_one_does(tmp_path: Path) -> None:
    async def scenario(desired: DesiredState, metadata: Metadata, updater: Updater) -> None:
        metadata.here.set()
        desired._take(TOPIC, deployment(7, FORMER))
        await until(lambda: metadata.refreshed == 1)
        desired._take(TOPIC, deployment(2))
        await until(lambda: updater.update.generation == 2)
        metadata.believed = [FORMER]
        desired._take(TOPIC, deployment(3, FORMER))
        await until(lambda: updater.update.generation == 3)

    play(tmp_path, scenario)


def test_of_many_messages_that_wait_none_for_this_device_is_lost_to_others(tmp_path: Path) -> None:
    async def scenario(desired: DesiredState, metadata: Metadata, updater: Updater) -> None:
        desired._take(TOPIC, b"")
        desired._take(TOPIC, deployment(1, device="edge-2"))
        desired._take(TOPIC, deployment(4))
        desired._take(TOPIC, deployment(9, slot="other"))
        desired._take(TOPIC, deployment(3))
        desired._take(TOPIC, deployment(8, expires_ms=EARLIEST_MS))
        await until(lambda: metadata.refreshed == 1)
        metadata.here.set()
        await until(lambda: updater.update.generation == 4)

    play(tmp_path, scenario)


def test_a_flood_of_forgeries_takes_a_bounded_place(tmp_path: Path) -> None:
    async def scenario(desired: DesiredState, metadata: Metadata, updater: Updater) -> None:
        for _ in range(10 * MOST_WAITING):
            desired._take(TOPIC, deployment(5, FORMER))
        assert len(desired._waiting) == MOST_WAITING
        metadata.here.set()
        desired._take(TOPIC, deployment(2))
        await until(lambda: updater.update.generation == 2)

    play(tmp_path, scenario)
