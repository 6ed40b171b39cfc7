"""The publisher over real brokers: what a device needs is there, once and in order, and goes when nobody needs it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.delivery import mqtt, rules
from cloud.delivery.mqtt import Publisher
from cloud.fleet.entities import Desired
from cloud.fleet.service import Fleet
from cloud.foundation.broker import Kind, embedded_broker
from cloud.foundation.database import Database
from cloud.registry.blobs import Blobs
from cloud.registry.entities import ModelVersion
from cloud.registry.service import Registry
from protos import topics
from protos.kit import envelope
from protos.kit.link import Address, Link
from protos.v1.delivery_pb2 import RepairRequest
from protos.v1.manifest_pb2 import Manifest, Variant
from protos.v1.report_pb2 import UPDATE_STATE_COMMITTED, Report, SlotState
from simulators.ports import free_port

KEY = Ed25519PrivateKey.generate()
NOW_MS = 1_700_000_000_000
PATIENCE_S = 60

os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian puts mosquitto; not on an ordinary user's PATH
MOSQUITTO = pytest.param(
    "mosquitto", marks=pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
)
both = pytest.mark.parametrize("kind", ["amqtt", MOSQUITTO])


@dataclass
class Cloud:
    """A real registry and fleet on a real database."""

    folder: Path
    database: Database = field(init=False)
    registry: Registry = field(init=False)
    fleet: Fleet = field(init=False)

    def __post_init__(self) -> None:
        self.database = Database(f"sqlite:///{self.folder}/cloud.db")
        self.database.create()
        blobs = Blobs(self.folder / "blobs")
        self.registry = Registry(self.database, blobs, lambda purpose, data: envelope.sign(purpose, data, KEY))
        self.fleet = Fleet(self.database)

    def register(self, size: int = 300_000) -> ModelVersion:
        draft = Manifest(model="digits", variants=[Variant(name="int8")])
        return self.registry.register(draft, {"int8": os.urandom(size)}, NOW_MS)

    def desire(self, device: str, version: ModelVersion) -> int:
        def build(generation: int) -> Desired:
            signed = f"{device}:{generation}".encode()
            return Desired(
                device, "default", generation, "digits", version.version, version.manifest_digest, "", signed, NOW_MS
            )

        with self.database.transaction() as transaction:
            return self.fleet.desire(transaction, device, "default", build).generation

    def commit(self, device: str, version: ModelVersion) -> None:
        desired = self.fleet.desired(device)
        assert desired is not None
        slot = SlotState(
            slot="default",
            state=UPDATE_STATE_COMMITTED,
            generation=desired.generation,
            manifest=version.manifest_digest,
            running=version.manifest_digest,
            running_model="digits",
            running_version=version.version,
        )
        report = Report(device=device, public_key=bytes(32), slots=[slot], reported_ms=NOW_MS)
        assert self.fleet.observe(report, NOW_MS) == []


@dataclass
class Observer:
    """Everything that crosses the broker after its connect, in order, and what is retained there now."""

    link: Link
    crossed: list[tuple[str, bytes]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, topic: str, payload: bytes) -> None:
        self.crossed.append((topic, payload))
        self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.news.clear()
            await self.news.wait()

    def topics(self) -> list[str]:
        return [topic for topic, _ in self.crossed]

    def last(self, topic: str) -> bytes | None:
        return next((payload for said, payload in reversed(self.crossed) if said == topic), None)

    def times(self, topic: str) -> int:
        return self.topics().count(topic)


@asynccontextmanager
async def linked(address: Address, name: str) -> AsyncIterator[Link]:
    link = Link(address, name)
    running = asyncio.create_task(link.run())
    await link.connected.wait()
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def observing(address: Address) -> AsyncIterator[Observer]:
    async with linked(address, f"observer-{os.urandom(4).hex()}") as link:
        observer = Observer(link)
        await link.subscribe(observer.take, f"{topics.ROOT}/#")
        yield observer


@asynccontextmanager
async def publishing(address: Address, cloud: Cloud) -> AsyncIterator[Link]:
    async with linked(address, "publisher") as link:
        running = asyncio.create_task(Publisher(link, cloud.registry, cloud.fleet).run())
        try:
            yield link
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def noted(cloud: Cloud) -> None:
    """Until the database says that every desired state was handed to the broker."""
    while cloud.fleet.unpublished():  # noqa: ASYNC110 - the database sends no event
        await asyncio.sleep(0.01)


def play(kind: Kind, folder: Path, scenario: Callable[[Address, Cloud], Awaitable[None]]) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            embedded_broker(kind, "127.0.0.1", free_port(), folder) as address,
        ):
            await scenario(address, Cloud(folder))

    asyncio.run(run())


def chunk_topics(version: ModelVersion) -> list[str]:
    artifact = version.parsed().variants[0].artifact
    return [topics.chunk(artifact.digest, index) for index in range(len(artifact.chunks))]


def everything(version: ModelVersion) -> list[str]:
    return [topics.manifest(version.manifest_digest), *chunk_topics(version)]


@both
def test_manifest_and_every_chunk_cross_the_broker_before_the_desired_state(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        cloud.desire("edge-1", version)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: topics.desired("edge-1") in observer.topics())
            await noted(cloud)
        assert sorted(observer.topics()[:-1]) == sorted(everything(version))
        assert observer.last(topics.desired("edge-1")) == b"edge-1:1"
        assert observer.last(topics.manifest(version.manifest_digest)) == version.signed
        digest = version.parsed().variants[0].artifact.digest
        for index, topic in enumerate(chunk_topics(version)):
            assert observer.last(topic) == cloud.registry.chunk(digest, index)

    play(kind, tmp_path, scenario)


@both
def test_a_device_that_comes_later_finds_it_all_retained(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        cloud.desire("edge-1", version)
        async with publishing(address, cloud):
            async with observing(address) as early:
                await early.until(lambda: topics.desired("edge-1") in early.topics())
            async with observing(address) as late:
                await late.until(lambda: set(late.topics()) >= {*everything(version), topics.desired("edge-1")})

    play(kind, tmp_path, scenario)


@both
def test_for_many_devices_each_chunk_crosses_once(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        async with observing(address) as observer, publishing(address, cloud):
            for wave in range(3):
                names = [f"edge-{wave}-{number}" for number in range(20)]
                for name in names:
                    cloud.desire(name, version)
                await observer.until(lambda: {topics.desired(name) for name in names} <= set(observer.topics()))  # noqa: B023
        assert [observer.times(topic) for topic in chunk_topics(version)] == [1] * len(chunk_topics(version))

    play(kind, tmp_path, scenario)


@both
def test_a_newer_generation_replaces_the_older_one(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        one, two = cloud.register(), cloud.register()
        async with observing(address) as observer, publishing(address, cloud):
            cloud.desire("edge-1", one)
            await observer.until(lambda: observer.last(topics.desired("edge-1")) == b"edge-1:1")
            cloud.desire("edge-1", two)
            await observer.until(lambda: observer.last(topics.desired("edge-1")) == b"edge-1:2")
            assert set(observer.topics()) >= set(everything(two))

    play(kind, tmp_path, scenario)


@both
def test_when_every_device_has_answered_chunks_and_manifest_are_cleared(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LINGER_MS", 300)
    monkeypatch.setattr(mqtt, "REVIEW_S", 0.2)

    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        for device in ("edge-1", "edge-2"):
            cloud.desire(device, version)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: {topics.desired("edge-1"), topics.desired("edge-2")} <= set(observer.topics()))
            cloud.commit("edge-1", version)
            await asyncio.sleep(1)
            assert not any(observer.last(topic) == b"" for topic in everything(version))
            cloud.commit("edge-2", version)
            await observer.until(lambda: all(observer.last(topic) == b"" for topic in everything(version)))
            async with observing(address) as late:
                await late.until(lambda: topics.desired("edge-2") in late.topics())
                assert not set(late.topics()) & set(everything(version))

    play(kind, tmp_path, scenario)


@both
def test_what_an_earlier_run_left_on_the_broker_is_cleared_by_the_next(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LINGER_MS", 300)
    monkeypatch.setattr(mqtt, "REVIEW_S", 0.2)

    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        cloud.desire("edge-1", version)
        async with observing(address) as observer:
            async with publishing(address, cloud):
                await observer.until(lambda: topics.desired("edge-1") in observer.topics())
            cloud.commit("edge-1", version)
            async with publishing(address, cloud):
                await observer.until(lambda: all(observer.last(topic) == b"" for topic in everything(version)))

    play(kind, tmp_path, scenario)


@both
def test_a_broker_that_comes_back_empty_is_given_everything_again(kind: Kind, tmp_path: Path) -> None:
    async def scenario() -> None:
        cloud, port = Cloud(tmp_path), free_port()
        done, waiting = cloud.register(), cloud.register()
        cloud.desire("edge-1", done)
        cloud.desire("edge-2", waiting)
        cloud.commit("edge-1", done)
        async with AsyncExitStack() as stack:
            async with embedded_broker(kind, "127.0.0.1", port, tmp_path) as address:
                await stack.enter_async_context(publishing(address, cloud))
                async with observing(address) as observer:
                    await observer.until(lambda: topics.desired("edge-2") in observer.topics())
            async with embedded_broker(kind, "127.0.0.1", port, tmp_path), observing(address) as observer:
                await observer.until(lambda: topics.desired("edge-2") in observer.topics())
                assert set(observer.topics()) >= set(everything(waiting))
                assert not set(observer.topics()) & set(everything(done))

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


@both
def test_a_lost_chunk_that_many_devices_ask_for_is_sent_again_once_and_retained(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        artifact = version.parsed().variants[0].artifact.digest
        cloud.desire("edge-1", version)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: topics.desired("edge-1") in observer.topics())
            lost = [topics.chunk(artifact, index) for index in (1, 3)]
            for topic in lost:
                await observer.link.publish(topic, b"", retain=True)
            for missing in (b"\x02", b"\x08", b"\x0a", b"\x0a"):
                request = RepairRequest(artifact=artifact, missing=missing).SerializeToString()
                await observer.link.publish(topics.repair(artifact), request)
            await observer.until(lambda: all(observer.last(topic) for topic in lost))
            assert [observer.times(topic) for topic in chunk_topics(version)] == [1, 3, 1, 3, 1]  # said, lost, repaired
            async with observing(address) as late:
                await late.until(lambda: set(late.topics()) >= set(chunk_topics(version)))

    play(kind, tmp_path, scenario)


@both
def test_requests_that_make_no_sense_are_ignored_and_the_next_good_one_is_answered(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        artifact = version.parsed().variants[0].artifact.digest
        cloud.desire("edge-1", version)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: topics.desired("edge-1") in observer.topics())
            good = RepairRequest(artifact=artifact, missing=b"\x01").SerializeToString()
            nonsense = [
                (topics.repair(artifact), b"\xff\xff"),
                (topics.repair(artifact), bytes(100_000)),
                (topics.repair(artifact), RepairRequest(artifact=artifact, missing=b"\xff" * 1000).SerializeToString()),
                (topics.repair(bytes(32)), RepairRequest(artifact=bytes(32), missing=b"\1").SerializeToString()),
                (f"{topics.ROOT}/artifacts/nothex/repair", good),
                (f"{topics.ROOT}/manifests/nothex", b"x"),
                (topics.manifest(bytes(32)), b"not a manifest of ours"),
            ]
            for topic, payload in nonsense:
                await observer.link.publish(topic, payload)
            await observer.link.publish(topics.repair(artifact), good)
            await observer.until(lambda: observer.times(topics.chunk(artifact, 0)) == 2)
            assert sum(observer.times(topic) for topic in chunk_topics(version)) == len(chunk_topics(version)) + 1

    play(kind, tmp_path, scenario)


def test_a_model_whose_file_is_gone_holds_up_no_other(tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        broken = cloud.register()
        shutil.rmtree(tmp_path / "blobs")
        whole = cloud.register()
        cloud.desire("edge-1", broken)
        cloud.desire("edge-2", whole)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: topics.desired("edge-2") in observer.topics())
            assert topics.desired("edge-1") not in observer.topics()

    play("amqtt", tmp_path, scenario)
