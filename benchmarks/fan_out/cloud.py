"""The cloud's side: the real registry, publisher and API in one process, as `littoral serve` runs them."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import uvicorn

from cloud.app import compose
from cloud.delivery.metadata import MetadataPublisher
from cloud.delivery.mqtt import Publisher
from cloud.fleet.entities import Desired
from cloud.foundation.settings import CloudSettings
from cloud.identity.service import Identity
from cloud.registry import routes
from cloud.registry.entities import ModelVersion
from cloud.routes import create_api
from protos import topics
from protos.kit.envelope import DEPLOYMENT
from protos.kit.link import Address, Link
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Manifest, Variant
from protos.v1.metadata_pb2 import MetadataIndex

MODEL = "bench"
WEIGHT_SPREAD = 24
"""Standard deviation of the weights of a trained int8 layer: such a file becomes a sixth smaller by compression."""
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Published:
    """What receivers need to know. travelling: bytes of the compressed artifact. seconds: until the broker had it."""

    version: int
    manifest: bytes
    artifact: bytes
    size: int
    travelling: int
    chunks: tuple[int, ...]
    seconds: float


class Cloud:
    """One at a time is open; each has a database, keys and a broker connection of its own."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, folder: Path, broker: Address) -> tuple[str, Path]:
        """Start the publisher and the API; returns the API's address and the file with the keys to trust.

        A fleet that has run before: the model has a version already, and trust's metadata is on the broker.
        """
        self._context = compose(CloudSettings(dir=folder))
        self._rooms = rooms = self._context.__enter__()
        self._identity = Identity(folder)
        self._announced = 0
        self._register(b"the version before")
        link = Link(broker, "cloud")
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        api = create_api([routes.router(rooms.registry)], dict)
        self._server = uvicorn.Server(uvicorn.Config(api, log_config=None, access_log=False, lifespan="off"))
        await link.subscribe(self._hear, topics.METADATA_INDEX)
        publishers = (MetadataPublisher(link, rooms.trust), Publisher(link, rooms.registry, rooms.fleet))
        work = (self._server.serve([listener]), link.run(), *(publisher.run() for publisher in publishers))
        self._tasks = [asyncio.create_task(each) for each in work]
        await self._until_announced()
        return f"http://127.0.0.1:{listener.getsockname()[1]}", rooms.trust.trust_path

    async def publish(self, size: int, seed: int, devices: int) -> Published:
        """Register a file of `size` bytes, order it for so many devices, and wait until all is on the broker."""
        weights = np.random.default_rng(seed).normal(0, WEIGHT_SPREAD, size)
        file = np.clip(weights, -128, 127).astype(np.int8).tobytes()
        version = self._register(file)
        started = time.monotonic()
        self._order(version, devices)
        await self._until_announced()
        await self._until_published()
        seconds = time.monotonic() - started
        artifact = version.parsed().variants[0].artifact
        chunks = tuple(chunk.size for chunk in artifact.chunks)
        return Published(version.version, version.manifest_digest, artifact.digest, size, sum(chunks), chunks, seconds)

    def _register(self, file: bytes) -> ModelVersion:
        draft = Manifest(model=MODEL, variants=[Variant(name="int8")])
        return self._rooms.registry.register(draft, {"int8": file}, _now_ms())

    def _order(self, version: ModelVersion, devices: int) -> None:
        fleet = self._rooms.fleet
        with self._rooms.database.transaction() as transaction:
            for name in (f"device-{number}" for number in range(devices)):
                fleet.desire(transaction, name, topics.DEFAULT_SLOT, partial(_desired, self._identity, version, name))

    def _hear(self, _: str, payload: bytes) -> None:
        self._announced = MetadataIndex.FromString(payload).timestamp

    async def _until_announced(self) -> None:
        """Trust's metadata of now is on the broker: its index comes last."""
        while self._announced != self._rooms.trust.timestamp_version():  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.01)

    async def _until_published(self) -> None:
        while await asyncio.to_thread(self._rooms.fleet.unpublished):  # noqa: ASYNC110 - it is in the database
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """End what `open` began."""
        self._server.should_exit = True
        await asyncio.wait({self._tasks[0]})
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._context.__exit__(None, None, None)


def _desired(identity: Identity, version: ModelVersion, device: str, generation: int) -> Desired:
    now_ms = _now_ms()
    deployment = Deployment(
        device=device,
        slot=topics.DEFAULT_SLOT,
        model=version.model,
        version=version.version,
        manifest=version.manifest_digest,
        generation=generation,
        issued_ms=now_ms,
        expires_ms=now_ms + DAY_MS,
    )
    signed = identity.sign(DEPLOYMENT, deployment.SerializeToString()).SerializeToString()
    return Desired(
        device=device,
        slot=topics.DEFAULT_SLOT,
        generation=generation,
        model=version.model,
        version=version.version,
        manifest=version.manifest_digest,
        rollout="",
        signed=signed,
        issued_ms=now_ms,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
