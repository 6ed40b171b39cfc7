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
from protos.kit.kinds import Kind
from protos.v1.sketches_pb2 import Drift
from protos.v1.uplink_pb2 import Ack, Batch, Books, Delay, Hello, Mark, Packing, Quarantined, UplinkReply, Welcome
from protos.v1.uplink_pb2_grpc import UplinkServicer, add_UplinkServicer_to_server

QUIET_S = 0.05


@dataclass
class Faults:
    """cut: share of batches after which the stream is cut, before the acknowledgement (half of the time before the
    commit, too). lose_ack: share of acknowledgements that are not sent; the next one stands for them, and if none comes
    the stream is cut, since words are lost only with their stream. messages: how many each of the first streams brings,
    the greeting included, before it is cut: the last one is not looked at any more."""

    cut: float = 0.0
    lose_ack: float = 0.0
    messages: list[int] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def strikes(self, share: float) -> bool:
        return self.chance.random() < share


@dataclass
class Shelf:
    """What is kept of one kind: watermarks by epoch, and what was committed, (epoch, first_seq, payload) in order."""

    watermarks: dict[int, int] = field(default_factory=dict)
    stored: list[tuple[int, int, bytes]] = field(default_factory=list)

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, _, payload in self.stored]


@dataclass
class SimulatedIngest(UplinkServicer):
    """Commits what is above the epoch's watermark, of each kind that it takes. An older one takes results alone."""

    faults: Faults = field(default_factory=Faults)
    kinds: tuple[Kind, ...] = tuple(Kind)
    window: int = 4
    max_batch_bytes: int = 128 * 1024
    poison: frozenset[bytes] = frozenset()
    delay_first_ms: int = 0
    packings: tuple[Packing, ...] = ()
    packed: int = 0
    shelves: dict[int, Shelf] = field(default_factory=lambda: {kind: Shelf() for kind in Kind})
    quarantined: list[bytes] = field(default_factory=list)
    order: list[int] = field(default_factory=list)  # the kinds of the batches, as they came
    books: list[Books] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    streams: int = 0
    most_unacknowledged: int = 0
    batches_after_s: list[float] = field(default_factory=list)

    def owes(self, kind: int) -> bool:  # noqa: ARG002 - one that is worse than this one may not
        """Whether it acknowledges batches of this kind."""
        return True

    @property
    def stored(self) -> list[tuple[int, int, bytes]]:
        """Of results."""
        return self.shelves[Kind.RESULTS].stored

    @property
    def payloads(self) -> list[bytes]:
        """Of results."""
        return self.shelves[Kind.RESULTS].payloads

    @property
    def events(self) -> list[bytes]:
        return self.shelves[Kind.EVENTS].payloads

    @property
    def telemetry(self) -> list[bytes]:
        return self.shelves[Kind.TELEMETRY].payloads

    async def Connect(self, messages: Any, context: Any) -> None:  # noqa: N802 - the contract's name
        left = self.faults.messages.pop(0) if self.faults.messages else 0
        self.streams += 1
        hello = (await anext(messages)).hello
        await self._cut_at(1, left, context)
        connection = Connection(self, hello, context, asyncio.get_running_loop().time())
        await connection.greet()
        count = 1
        while message := await connection.next(messages):
            count += 1
            await self._cut_at(count, left, context)
            match message.WhichOneof("body"):
                case "drift":
                    self.drifts.append(message.drift)
                case "books":
                    self.books.append(message.books)
                case "batch":
                    await connection.take(message.batch)
                case other:
                    raise AssertionError(f"no agent of today sends {other}")

    @staticmethod
    async def _cut_at(count: int, left: int, context: Any) -> None:
        if count == left:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"cut at message {count}")


class Connection:
    """One stream of a device."""

    def __init__(self, ingest: SimulatedIngest, hello: Hello, context: Any, began_s: float) -> None:
        self._ingest = ingest
        self._hello = hello
        self._context = context
        self._began_s = began_s
        self._epochs = {Kind.RESULTS: hello.epoch, **{line.kind: line.epoch for line in hello.lines}}
        self._unacknowledged = dict.fromkeys(self._epochs, 0)

    async def greet(self) -> None:
        ingest, hello = self._ingest, self._hello
        ingest.books += [hello.books, *(line.books for line in hello.lines)]
        marks = {kind: ingest.shelves[kind].watermarks.setdefault(epoch, 0) for kind, epoch in self._epochs.items()}
        welcome = Welcome(
            watermark=marks.pop(Kind.RESULTS),
            window=ingest.window,
            max_batch_bytes=ingest.max_batch_bytes,
            packings=ingest.packings,
            marks=[Mark(kind=kind, watermark=mark) for kind, mark in marks.items() if kind in ingest.kinds],
        )
        await self._context.write(UplinkReply(welcome=welcome))
        if ingest.delay_first_ms:
            await self._context.write(UplinkReply(delay=Delay(milliseconds=ingest.delay_first_ms)))

    async def next(self, messages: Any) -> Any:
        owing = any(self._unacknowledged.values())
        try:
            async with asyncio.timeout(QUIET_S if owing else None):
                return await anext(messages, None)
        except TimeoutError:
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, "cut with a lost acknowledgement")

    async def take(self, batch: Batch) -> None:
        ingest, faults, kind = self._ingest, self._ingest.faults, batch.kind
        assert kind in ingest.kinds, "a device sends only kinds that have a mark"
        ingest.batches_after_s.append(asyncio.get_running_loop().time() - self._began_s)
        ingest.order.append(kind)
        self._unacknowledged[kind] += 1
        ingest.most_unacknowledged = max(ingest.most_unacknowledged, self._unacknowledged[kind])
        cut = faults.strikes(faults.cut)
        if cut and faults.strikes(0.5):
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, "cut before the commit")
        await self._commit(ingest.shelves[kind], batch)
        if cut:
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, "cut before the acknowledgement")
        if not ingest.owes(kind):
            self._unacknowledged[kind] = 0
        elif not faults.strikes(faults.lose_ack) or self._unacknowledged[kind] == ingest.window:
            self._unacknowledged[kind] = 0
            watermark = ingest.shelves[kind].watermarks[self._epochs[kind]]
            await self._context.write(UplinkReply(ack=Ack(watermark=watermark, kind=kind)))

    async def _commit(self, shelf: Shelf, batch: Batch) -> None:
        ingest, epoch = self._ingest, self._epochs[batch.kind]
        if batch.packing:
            ingest.packed += 1
            batch.payload = packing.unpack(batch.payload, ingest.max_batch_bytes)
        last = batch.first_seq + batch.count - 1
        if last <= shelf.watermarks[epoch]:
            return
        assert batch.first_seq > shelf.watermarks[epoch], "a batch was cut in two"
        shelf.watermarks[epoch] = last
        if batch.payload in ingest.poison:
            ingest.quarantined.append(batch.payload)
            aside = Quarantined(first_seq=batch.first_seq, reason="poison", kind=batch.kind)
            await self._context.write(UplinkReply(quarantined=aside))
        else:
            shelf.stored.append((epoch, batch.first_seq, batch.payload))


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
