"""A running ingest and a device's stream, as the uplink's tests need them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import grpc
import numpy as np
from sqlalchemy import select

from cloud.foundation.database import Database
from cloud.uplink import tables
from cloud.uplink.entities import KnownVersion
from cloud.uplink.merge import Merger
from cloud.uplink.rpc import UplinkService
from cloud.uplink.server import KEEP_ALIVE, IngestServer
from protos.kit.columns import Results, encode
from protos.kit.keepalive import KeepAlive
from protos.kit.kinds import Kind
from protos.v1 import uplink_pb2, uplink_pb2_grpc
from protos.v1.uplink_pb2 import UplinkMessage, UplinkReply
from tests import kinds

MANIFEST = b"m" * 32
EPOCH = 77


def known(digest: bytes) -> KnownVersion | None:
    return KnownVersion("digits", 1, classes=10) if digest == MANIFEST else None


@dataclass
class Cloud:
    """A running ingest."""

    database: Database
    server: IngestServer
    service: UplinkService
    address: str
    telemetry: list[tuple[str, uplink_pb2.Telemetry]] = field(default_factory=list)

    def stored(self, device: str = "edge-1", epoch: int = EPOCH, kind: Kind = Kind.RESULTS) -> list[int]:
        """Sequence numbers in the database, a number as often as it is there."""
        return stored(self.database, device, epoch, kind)


def stored(database: Database, device: str = "edge-1", epoch: int = EPOCH, kind: Kind = Kind.RESULTS) -> list[int]:
    """The sequence numbers of one stream in the database, a number as often as it is there."""
    s, table = tables.streams.c, kinds.TABLES[kind]
    wanted = select(table.c.seq).join(tables.streams, s.id == table.c.stream)
    wanted = wanted.where(s.device == device, s.kind == kind, s.epoch == epoch).order_by("seq")
    with database.reading() as connection:
        return list(connection.execute(wanted).scalars())


@asynccontextmanager
async def running_cloud(
    database_url: str, *, wait_s: float = 0.005, keep_alive: KeepAlive = KEEP_ALIVE
) -> AsyncIterator[Cloud]:
    database = Database(database_url)
    database.create()
    ingest = kinds.ingest_of_all_kinds(database, known)
    merger = Merger(ingest.commit, rows=5000, wait_s=wait_s)
    told: list[tuple[str, uplink_pb2.Telemetry]] = []
    service = UplinkService(ingest, merger, lambda device, telemetry: told.append((device, telemetry)))
    server = IngestServer(service, keep_alive)
    port = server.bind("127.0.0.1", 0)
    await server.start()
    merging = asyncio.create_task(merger.run())
    try:
        yield Cloud(database, server, service, f"127.0.0.1:{port}", told)
    finally:
        await server.stop(5)
        merger.close()
        await merging
        database.close()


class Device:
    """One stream as a device opens it."""

    def __init__(self, call: grpc.aio.StreamStreamCall[UplinkMessage, UplinkReply]) -> None:
        self.call = call
        self.told = dict.fromkeys(Kind, 0)
        self.quarantined: list[tuple[int, str]] = []
        self.aside: list[Kind] = []
        self.delays: list[int] = []

    @property
    def acknowledged(self) -> int:
        """Of results."""
        return self.told[Kind.RESULTS]

    @acknowledged.setter
    def acknowledged(self, watermark: int) -> None:
        self.told[Kind.RESULTS] = watermark

    async def hello(self, device: str = "edge-1", epoch: int = EPOCH) -> uplink_pb2.Welcome:
        await self.call.write(UplinkMessage(hello=uplink_pb2.Hello(device=device, epoch=epoch)))
        return (await self.next()).welcome

    async def hello_with_lines(self, device: str = "edge-1", epoch: int = EPOCH) -> dict[Kind, int]:
        """The greeting of a device that has outboxes of all kinds; how far the server says that each has come."""
        lines = [uplink_pb2.Line(kind=wire(kind), epoch=epoch) for kind in Kind if kind is not Kind.RESULTS]
        await self.call.write(UplinkMessage(hello=uplink_pb2.Hello(device=device, epoch=epoch, lines=lines)))
        welcome = (await self.next()).welcome
        return {Kind.RESULTS: welcome.watermark} | {Kind(mark.kind): mark.watermark for mark in welcome.marks}

    async def send(self, first_seq: int, count: int, payload: bytes | None = None, kind: Kind = Kind.RESULTS) -> None:
        data = CONTENT[kind](first_seq, count) if payload is None else payload
        sent = uplink_pb2.Batch(first_seq=first_seq, count=count, payload=data, kind=wire(kind))
        await self.call.write(UplinkMessage(batch=sent))

    async def next(self) -> UplinkReply:
        reply = await self.call.read()
        assert isinstance(reply, UplinkReply), f"the stream ended: {await self.call.code()}"
        self._take(reply)
        return reply

    def _take(self, reply: UplinkReply) -> None:
        if reply.HasField("ack"):
            self.told[Kind(reply.ack.kind)] = reply.ack.watermark
        if reply.HasField("delay"):
            self.delays.append(reply.delay.milliseconds)
        if reply.HasField("quarantined"):
            self.quarantined.append((reply.quarantined.first_seq, reply.quarantined.reason))
            self.aside.append(Kind(reply.quarantined.kind))

    async def until_acknowledged(self, seq: int, kind: Kind = Kind.RESULTS) -> None:
        while self.told[kind] < seq:
            await self.next()

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end; the status and what it says."""
        with suppress(grpc.aio.AioRpcError):
            while isinstance(reply := await self.call.read(), UplinkReply):
                self._take(reply)
        return await self.call.code(), await self.call.details()


@asynccontextmanager
async def device_of(address: str) -> AsyncIterator[Device]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Device(uplink_pb2_grpc.UplinkStub(channel).Connect())


def batch(first: int, count: int) -> bytes:
    return encode(
        Results(
            model="digits",
            version=1,
            manifest=MANIFEST,
            source="camera",
            frame=np.arange(first, first + count, dtype=np.uint64),
            captured_us=np.zeros(count, np.int64),
            label=np.zeros(count, np.uint16),
            confidence=np.ones(count, np.float32),
            latency_us=np.ones(count, np.uint32),
        )
    )


CONTENT = {Kind.RESULTS: batch, Kind.EVENTS: kinds.events, Kind.TELEMETRY: kinds.telemetry}
"""By kind, the bytes of a batch from its first number and count."""


def wire(kind: Kind) -> uplink_pb2.Kind:
    """As messages have it."""
    return uplink_pb2.Kind.Value(f"KIND_{kind.name}")
