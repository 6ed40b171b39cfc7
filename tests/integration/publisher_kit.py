"""A publisher on a real registry and fleet, and an observer of all that crosses the broker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
from protos.v1.manifest_pb2 import Manifest, Variant
from protos.v1.report_pb2 import UPDATE_STATE_COMMITTED, Report, SlotState
from simulators.ports import free_port

KEY = Ed25519PrivateKey.generate()
NOW_MS = 1_700_000_000_000
PATIENCE_S = 60


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
