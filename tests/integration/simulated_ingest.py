"""An ingest in memory that keeps the contract of the uplink, with faults to switch on: cut streams, lost words."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from protos.kit import packing
from protos.v1.sketches_pb2 import Drift
from protos.v1.uplink_pb2 import Ack, Batch, Books, Delay, Packing, Quarantined, Telemetry, UplinkReply, Welcome
from protos.v1.uplink_pb2_grpc import UplinkServicer, add_UplinkServicer_to_server

QUIET_S = 0.05


@dataclass
class Faults:
    """cut: share of batches after which the stream is cut, before the acknowledgement (half of the time before the
    commit, too). lose_ack: share of acknowledgements that are not sent; the next one stands for them, and if none comes
    the stream is cut, since words are lost only with their stream."""

    cut: float = 0.0
    lose_ack: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def strikes(self, share: float) -> bool:
        return self.chance.random() < share


@dataclass
class SimulatedIngest(UplinkServicer):
    """Commits what is above the epoch's watermark. `stored`: (epoch, first_seq, payload) in order of their commit."""

    faults: Faults = field(default_factory=Faults)
    window: int = 4
    max_batch_bytes: int = 128 * 1024
    poison: frozenset[bytes] = frozenset()
    delay_first_ms: int = 0
    packings: tuple[Packing, ...] = ()
    packed: int = 0
    watermarks: dict[int, int] = field(default_factory=dict)
    stored: list[tuple[int, int, bytes]] = field(default_factory=list)
    quarantined: list[bytes] = field(default_factory=list)
    telemetry: list[Telemetry] = field(default_factory=list)
    books: list[Books] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    streams: int = 0
    most_unacknowledged: int = 0
    batches_after_s: list[float] = field(default_factory=list)

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, _, payload in self.stored]

    async def Connect(self, messages: Any, context: Any) -> None:  # noqa: N802 - the contract's name
        self.streams += 1
        hello = (await anext(messages)).hello
        self.books.append(hello.books)
        began, unacknowledged = asyncio.get_running_loop().time(), 0
        watermark = self.watermarks.setdefault(hello.epoch, 0)
        welcome = Welcome(
            watermark=watermark, window=self.window, max_batch_bytes=self.max_batch_bytes, packings=self.packings
        )
        await context.write(UplinkReply(welcome=welcome))
        if self.delay_first_ms:
            await context.write(UplinkReply(delay=Delay(milliseconds=self.delay_first_ms)))
        while message := await self._next(messages, context, owing=unacknowledged > 0):
            if message.WhichOneof("body") == "telemetry":
                self.telemetry.append(message.telemetry)
            if message.WhichOneof("body") == "drift":
                self.drifts.append(message.drift)
            if message.WhichOneof("body") == "books":
                self.books.append(message.books)
                continue
            if message.WhichOneof("body") != "batch":
                continue
            self.batches_after_s.append(asyncio.get_running_loop().time() - began)
            unacknowledged += 1
            self.most_unacknowledged = max(self.most_unacknowledged, unacknowledged)
            cut = self.faults.strikes(self.faults.cut)
            if cut and self.faults.strikes(0.5):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut before the commit")
            await self._commit(hello.epoch, message.batch, context)
            if cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut before the acknowledgement")
            if not self.faults.strikes(self.faults.lose_ack) or unacknowledged == self.window:
                unacknowledged = 0
                await context.write(UplinkReply(ack=Ack(watermark=self.watermarks[hello.epoch])))

    async def _next(self, messages: Any, context: Any, *, owing: bool) -> Any:
        try:
            async with asyncio.timeout(QUIET_S if owing else None):
                return await anext(messages, None)
        except TimeoutError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut with a lost acknowledgement")

    async def _commit(self, epoch: int, batch: Batch, context: Any) -> None:
        if batch.packing:
            self.packed += 1
            batch.payload = packing.unpack(batch.payload, self.max_batch_bytes)
        last = batch.first_seq + batch.count - 1
        if last <= self.watermarks[epoch]:
            return
        assert batch.first_seq > self.watermarks[epoch], "a batch was cut in two"
        self.watermarks[epoch] = last
        if batch.payload in self.poison:
            self.quarantined.append(batch.payload)
            await context.write(UplinkReply(quarantined=Quarantined(first_seq=batch.first_seq, reason="poison")))
        else:
            self.stored.append((epoch, batch.first_seq, batch.payload))


@asynccontextmanager
async def listening(ingest: UplinkServicer, port: int = 0) -> AsyncIterator[int]:
    """Serve on the loopback; yields the port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_UplinkServicer_to_server(ingest, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(grace=None)
