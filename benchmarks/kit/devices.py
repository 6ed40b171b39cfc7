"""Devices as the ingest sees them: streams of batches that were encoded beforehand, as the outbox holds them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import grpc.aio
import numpy as np

from benchmarks.kit.ingest_server import KNOWN, MANIFEST
from protos.kit.columns import Results, encode
from protos.v1.uplink_pb2 import Batch, Hello, UplinkMessage, UplinkReply
from protos.v1.uplink_pb2_grpc import UplinkStub

EPOCH = 1
START_US = 1_750_000_000_000_000


def results(first: int, count: int) -> Results:
    """Results as a sensor of a hundred frames a second makes them, frame numbers like sequence numbers."""
    frame = np.arange(first, first + count, dtype=np.uint64)
    chance = np.random.default_rng(first)
    return Results(
        model=KNOWN.model,
        version=KNOWN.version,
        manifest=MANIFEST,
        source="camera",
        frame=frame,
        captured_us=START_US + frame.astype(np.int64) * 10_000,
        label=chance.integers(0, KNOWN.classes, count).astype(np.uint16),
        confidence=chance.random(count, np.float32),
        latency_us=chance.integers(50, 500, count).astype(np.uint32),
    )


def batches(first: int, rows: int, size: int) -> list[Batch]:
    """Consecutive batches of `size` results, `rows` in all."""
    return [
        Batch(first_seq=seq, count=size, payload=encode(results(seq, size))) for seq in range(first, first + rows, size)
    ]


@dataclass
class Device:
    """One stream on a connection of its own. `latencies_s`: from handing a batch to gRPC until its acknowledgement."""

    address: str
    name: str
    latencies_s: list[float] = field(default_factory=list)
    acknowledged: int = 0
    _under_way: deque[tuple[int, float]] = field(default_factory=deque)

    async def run(self, use: Callable[[Device], Coroutine[None, None, None]]) -> None:
        """Connect, be welcomed, and let `use` send."""
        # Without a pool of its own every device would share one connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.address, options=options) as channel:
            self._call: grpc.aio.StreamStreamCall[UplinkMessage, UplinkReply] = UplinkStub(channel).Connect()  # type: ignore[no-untyped-call]
            await self._call.write(UplinkMessage(hello=Hello(device=self.name, epoch=EPOCH)))
            welcome = (await self._read()).welcome
            self.acknowledged = welcome.watermark
            self._window = asyncio.Semaphore(welcome.window)
            self._news = asyncio.Event()
            tasks = asyncio.create_task(self._listen()), asyncio.create_task(use(self))
            try:
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
            for task in ended:
                task.result()

    async def send(self, batch: Batch) -> None:
        """Hand one batch to gRPC when the window has room."""
        await self._window.acquire()
        self._under_way.append((batch.first_seq + batch.count - 1, asyncio.get_running_loop().time()))
        await self._call.write(UplinkMessage(batch=batch))

    async def until_acknowledged(self) -> None:
        """Return when all that was sent is committed."""
        while self._under_way:
            self._news.clear()
            await self._news.wait()

    async def _listen(self) -> None:
        while True:
            reply = await self._read()
            assert reply.WhichOneof("body") == "ack", f"{self.name} was told {reply}"
            self.acknowledged, now = reply.ack.watermark, asyncio.get_running_loop().time()
            while self._under_way and self._under_way[0][0] <= self.acknowledged:
                self.latencies_s.append(now - self._under_way.popleft()[1])
                self._window.release()
            self._news.set()

    async def _read(self) -> UplinkReply:
        reply = await self._call.read()
        assert isinstance(reply, UplinkReply), f"the stream of {self.name} ended: {await self._call.details()}"
        return reply
