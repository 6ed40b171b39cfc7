"""Ingests and devices with samples, in this process or in ones of their own that are killed without warning."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cloud.samples.rpc import SampleStreams
from cloud.uplink.merge import Merger
from cloud.uplink.rpc import UplinkService
from cloud.uplink.server import IngestServer
from cloud.uplink.service import Ingest
from edge.samples.rpc import SampleUploads
from edge.samples.service import Sampler
from edge.samples.store import SampleStore
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import Uplink
from protos.kit import logs
from protos.v1.uplink_pb2 import UplinkMessage
from protos.v1.uplink_pb2_grpc import UplinkServicer, UplinkStub
from tests.samples_cloud import FRAME_BYTES, SHAPE, SamplesCloud, samples_cloud
from tests.samples_kit import answered, pictures, results
from tests.waiting import eventually

POLICY_S = 0.02
DAY_MS = 20_000 * 86_400_000


@asynccontextmanager
async def ingest_of(cloud: SamplesCloud, port: int = 0) -> AsyncIterator[str]:
    """A running ingest with samples; its address."""
    ingest = Ingest(cloud.database, cloud.known)
    merger, streams = Merger(ingest.commit, rows=5000, wait_s=0.005), SampleStreams(cloud.samples, POLICY_S)
    service = UplinkService(ingest, merger, lambda _device, _telemetry: None)
    service.samples = streams
    server = IngestServer(service)
    bound = server.bind("127.0.0.1", port)
    await server.start()
    running = [asyncio.create_task(merger.run()), asyncio.create_task(streams.run())]
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(5)
        merger.close()
        running[1].cancel()
        await asyncio.gather(*running, return_exceptions=True)


@dataclass
class Device:
    """One life of a device's agent, as far as results and samples go."""

    outbox: Outbox
    store: SampleStore
    sampler: Sampler
    manifest: bytes

    def infer(self, confidence: list[float], first_frame: int) -> None:
        """Frames become durable results, and samples."""
        found = results(confidence, first_frame, manifest=self.manifest)
        shown = answered(found, pictures(len(found), first_frame, FRAME_BYTES), SHAPE)
        last = first_frame + len(found) - 1
        self.outbox.append([NewBatch(len(found), shown.outcome.payload, "camera", last)])
        self.sampler.take(shown)

    @property
    def waiting(self) -> int:
        """Samples that are still here."""
        return len(self.store.after(0, 10_000))


@asynccontextmanager
async def device_in(folder: Path, address: str, manifest: bytes, name: str = "edge-1") -> AsyncIterator[Device]:
    """A running device on a folder that may have been used before."""
    outbox, store = Outbox.open(folder / "outbox.sqlite", 1 << 30), SampleStore.open(folder / "samples.sqlite")
    sampler = Sampler(store, name, 1 << 30, lambda: DAY_MS)
    uplink = Uplink(address, name, outbox, chance=lambda: 0.02)
    uplink.spare, sampler.on_kept = SampleUploads(store, sampler), uplink.nudge
    running = [asyncio.create_task(uplink.run()), asyncio.create_task(sampler.run())]
    try:
        yield Device(outbox, store, sampler, manifest)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        outbox.close()
        store.close()


@dataclass
class Cutter(UplinkServicer):
    """Between devices and an ingest: passes every message on, but cuts the stream instead of message `cut_at`.

    Messages of both directions count, from 1. `log`: what passed, each by its kind. After the cut it cuts no more.
    """

    target: str
    cut_at: int = 0
    log: list[str] = field(default_factory=list)
    pieces: int = 0

    async def Connect(self, messages: Any, context: Any) -> None:  # noqa: N802 - the contract's name
        async with grpc.aio.insecure_channel(self.target) as channel:
            call = UplinkStub(channel).Connect()  # type: ignore[no-untyped-call]
            up = asyncio.create_task(self._pass(messages, call.write))
            down = asyncio.create_task(self._pass(call, context.write))
            done, left = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
            await asyncio.gather(*done, *left, return_exceptions=True)
            call.cancel()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    async def _pass(self, messages: Any, write: Callable[[Any], Any]) -> None:
        async for message in messages:
            self.log.append(message.WhichOneof("body"))
            if isinstance(message, UplinkMessage):
                self.pieces += len(message.sample_piece.data)
            if len(self.log) == self.cut_at:
                return
            await write(message)


def serve(url: str, folder: Path, port: int) -> None:
    """An ingest, until it is killed."""

    async def main() -> None:
        async with ingest_of(samples_cloud(url, folder), port):
            await asyncio.Event().wait()

    logs.configure("critical")
    asyncio.run(main())


def sense(address: str, name: str, folder: Path, manifest: bytes, stop: Path) -> None:
    """A device that infers one unsure frame after the other, until `stop` exists and all is sent."""

    async def main() -> None:
        async with device_in(folder, address, manifest, name) as device:
            for number in itertools.count(device.outbox.source_watermark("camera") + 1):
                if os.path.exists(stop):  # noqa: ASYNC240, PTH110 - a look at a folder is quick
                    break
                device.infer([0.1], number)
                await asyncio.sleep(0.01)
            await device.sampler.written()
            await eventually(lambda: device.waiting == 0 and device.outbox.depth().rows == 0)

    logs.configure("critical")
    asyncio.run(main())


def digests(first: int, last: int) -> set[str]:
    """Of the frames that have these numbers."""
    return {hashlib.sha256(pictures(1, number, FRAME_BYTES).tobytes()).hexdigest() for number in range(first, last + 1)}
