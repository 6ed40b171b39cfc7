"""A real broker and the cloud's signing half around agents that are processes of their own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from cloud.delivery.metadata import ordered
from cloud.fleet import rules
from cloud.foundation.broker import Kind, embedded_broker
from cloud.foundation.database import Database
from cloud.identity.entities import Lifetimes
from cloud.identity.service import Identity
from cloud.identity.trust import FleetTrust
from cloud.registry.blobs import Blobs
from cloud.registry.entities import ModelVersion, artifacts
from cloud.registry.service import Registry
from protos import topics
from protos.kit import envelope
from protos.kit.link import Address, Link
from protos.v1.deployment_pb2 import Deployment
from protos.v1.frames_pb2 import FrameBatch, FramesHello, FramesMessage, FramesReply
from protos.v1.frames_pb2_grpc import FramesStub
from protos.v1.manifest_pb2 import Manifest, Signed
from protos.v1.report_pb2 import Receipt, Report, SlotState
from simulators.ports import free_port

DAY_MS = 86_400_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Cloud:
    """Signs and publishes by hand, and hears what devices say."""

    def __init__(self, folder: Path, port: int, kind: Kind = "amqtt") -> None:
        folder.mkdir(parents=True)
        self._kind: Kind = kind
        database = Database(f"sqlite:///{folder}/cloud.db")
        database.create()
        self.folder = folder
        self.address = Address("127.0.0.1", port)
        self.identity = Identity(folder)
        self.trust = FleetTrust(database, self.identity, folder / "offline", Lifetimes())
        self.registry = Registry(database, Blobs(folder / "blobs"), self.identity.sign, self.trust.list_version)
        self.trust.prepare(self.registry.registered, now_ms())
        self.link = Link(self.address, "cloud")
        self.reports: dict[str, Report] = {}
        self.presence: dict[str, bytes] = {}
        self._news = asyncio.Event()

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[None]:
        """The broker and this cloud's link to it, within the block."""
        async with embedded_broker(self._kind, "127.0.0.1", self.address.port, self.folder):
            self.link = Link(self.address, "cloud")
            await self.link.subscribe(self._hear, topics.ALL_REPORTED, topics.ALL_PRESENCE)
            running = asyncio.create_task(self.link.run())
            await self.link.connected.wait()
            try:
                yield
            finally:
                running.cancel()
                await asyncio.wait({running})

    def register(self, draft: Manifest, files: Mapping[str, bytes]) -> ModelVersion:
        return self.registry.register(draft, files, now_ms())

    async def publish(self, version: ModelVersion, *, chunks: bool = True) -> None:
        await self.publish_metadata()
        await self._say(topics.manifest(version.manifest_digest), version.signed)
        for artifact in artifacts(version.parsed()) if chunks else ():
            for index in range(len(artifact.chunks)):
                data = self.registry.chunk(artifact.digest, index)
                await self._say(topics.chunk(artifact.digest, index), data)

    async def publish_metadata(self) -> None:
        for name, data in ordered(self.trust.files()).items():
            await self._say(topics.metadata(name), data)

    async def deploy(
        self,
        wanted: ModelVersion,
        generation: int,
        sign: Callable[[str, bytes], Signed] | None = None,
        on: str = topics.DEFAULT_SLOT,
        **changes: object,
    ) -> None:
        """Give `wanted` to edge-1, on the topic of slot `on`. `changes` override fields of the deployment."""
        fields: dict[str, Any] = {
            "device": "edge-1",
            "slot": on,
            "model": wanted.model,
            "version": wanted.version,
            "manifest": wanted.manifest_digest,
            "generation": generation,
            "issued_ms": now_ms(),
            "expires_ms": now_ms() + DAY_MS,
        }
        payload = Deployment(**fields | changes).SerializeToString()
        signed = (sign or self.identity.sign)(envelope.DEPLOYMENT, payload)
        await self._say(topics.desired("edge-1", on), signed.SerializeToString())

    async def slot(self, holds: Callable[[SlotState], bool], name: str = topics.DEFAULT_SLOT) -> SlotState:
        """What edge-1 reports of a slot, once that `holds`."""

        def found() -> SlotState | None:
            slots = self.reports["edge-1"].slots if "edge-1" in self.reports else ()
            return next((slot for slot in slots if slot.slot == name and holds(slot)), None)

        await self.until(lambda: found() is not None)
        slot = found()
        assert slot
        return slot

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._news.clear()
            await self._news.wait()

    def receipt(self, slot: SlotState) -> Receipt:
        """The receipt in a report, verified with the device's key."""
        key = envelope.Ed25519PublicKey.from_public_bytes(self.reports["edge-1"].public_key)
        return Receipt.FromString(envelope.verify(envelope.RECEIPT, slot.receipt, {envelope.key_id(key): key}))

    async def _say(self, topic: str, data: bytes) -> None:
        await self.link.publish(topic, data, retain=True)

    def _hear(self, topic: str, data: bytes) -> None:
        device = topics.device_of(topic)
        if topic == topics.reported(device):
            self.reports[device] = believed(Report.FromString(data))
        else:
            self.presence[device] = data
        self._news.set()


def believed(report: Report) -> Report:
    """The report, which the cloud's own rules must believe, its receipt included."""
    reported = rules.read_report(report)
    for slot in reported.slots:
        if signed := reported.receipts.get(slot.slot):
            rules.read_receipt(reported.device, slot, signed, reported.public_key)
    return report


@dataclass
class Device:
    """One agent: its data folder, and its process while it runs."""

    folder: Path
    cloud: Cloud
    process: asyncio.subprocess.Process | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    _reading: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def command(self, *more: str) -> list[str]:
        flags = {
            "--id": "edge-1",
            "--dir": str(self.folder),
            "--trust": str(self.cloud.trust.trust_path),
            "--broker": str(self.cloud.address),
            "--uplink": "127.0.0.1:9",  # nobody listens there: results wait in the outbox
            "--report-s": "1",
            "--golden-timeout-s": "60",
        }
        return [sys.executable, "-m", "edge.cli", "run", *(part for flag in flags.items() for part in flag), *more]

    async def start(self, *more: str) -> None:
        """Start the agent; returns when it is ready."""
        self.log.clear()
        self.process = await asyncio.create_subprocess_exec(*self.command(*more), stderr=asyncio.subprocess.PIPE)
        self._reading = asyncio.create_task(self._read(self.process))
        await self.logged("agent ready")

    async def logged(self, event: str) -> dict[str, Any]:
        """The first line of the log with this event. Fails when the agent ends before."""
        while not (found := [line for line in self.log if line["event"] == event]):
            self._news.clear()
            assert self._reading
            assert not self._reading.done(), self.log
            await self._news.wait()
        return found[0]

    async def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal the agent and wait for its end; returns its exit code."""
        assert self.process
        assert self._reading
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await self.process.wait()
        await self._reading
        return code

    async def feed(self, frames: np.ndarray, first_frame: int) -> list[FramesReply]:
        """Hand frames in as source "camera"; returns the replies once all are settled."""
        async with grpc.aio.insecure_channel(f"unix:{self.folder / 'frames.sock'}") as channel:
            call = FramesStub(channel).Feed()
            await call.write(FramesMessage(hello=FramesHello(source="camera")))
            await call.write(FramesMessage(batch=batch_of(frames, first_frame)))
            await call.done_writing()
            return [reply async for reply in call]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr
        async for line in process.stderr:
            text = line.decode()
            self.log.append(json.loads(text) if text.startswith("{") else {"event": text})
            self._news.set()
        self._news.set()


def batch_of(frames: np.ndarray, first_frame: int) -> FrameBatch:
    return FrameBatch(
        first_frame=first_frame,
        count=len(frames),
        pixels=frames.tobytes(),
        first_captured_us=now_ms() * 1000,
        captured_offset_us=np.zeros(len(frames), "<u4").tobytes(),
    )


@asynccontextmanager
async def world(folder: Path, kind: Kind = "amqtt") -> AsyncIterator[tuple[Cloud, Device, AsyncExitStack]]:
    """A cloud whose broker runs until the yielded stack is closed, and a device that is not started yet."""
    cloud = Cloud(folder / "cloud", free_port(), kind)
    device = Device(folder / "edge", cloud)
    try:
        async with AsyncExitStack() as broker:
            await broker.enter_async_context(cloud.broker())
            yield cloud, device, broker
    finally:
        if device.process and device.process.returncode is None:
            await device.end()
