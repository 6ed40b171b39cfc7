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
from cloud.uplink.service import Ingest
from protos.kit.columns import Results, encode
from protos.kit.keepalive import KeepAlive
from protos.v1 import uplink_pb2, uplink_pb2_grpc
from protos.v1.uplink_pb2 import UplinkMessage, UplinkReply

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

    def stored(self, device: str = "edge-1", epoch: int = EPOCH) -> list[int]:
        """Sequence numbers in the database, a number as often as it is there."""
        return stored(self.database, device, epoch)


def stored(database: Database, device: str = "edge-1", epoch: int = EPOCH) -> list[int]:
    """The frames' sequence numbers of one stream in the database, a number as often as it is there."""
    wanted = select(tables.results.c.seq).join(tables.streams, tables.streams.c.id == tables.results.c.stream)
    wanted = wanted.where(tables.streams.c.device == device, tables.streams.c.epoch == epoch).order_by("seq")
    with database.reading() as connection:
        return list(connection.execute(wanted).scalars())


@asynccontextmanager
async def running_cloud(
    database_url: str, *, wait_s: float = 0.005, keep_alive: KeepAlive = KEEP_ALIVE
) -> AsyncIterator[Cloud]:
    database = Database(database_url)
    database.create()
    ingest = Ingest(database, known)
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
        self.acknowledged = 0
        self.quarantined: list[tuple[int, str]] = []
        self.delays: list[int] = []

    async def hello(self, device: str = "edge-1", epoch: int = EPOCH) -> uplink_pb2.Welcome:
        await self.call.write(UplinkMessage(hello=uplink_pb2.Hello(device=device, epoch=epoch)))
        return (await self.next()).welcome

    async def send(self, first_seq: int, count: int, payload: bytes | None = None) -> None:
        data = batch(first_seq, count) if payload is None else payload
        await self.call.write(UplinkMessage(batch=uplink_pb2.Batch(first_seq=first_seq, count=count, payload=data)))

    async def next(self) -> UplinkReply:
        reply = await self.call.read()
        assert isinstance(reply, UplinkReply), f"the stream ended: {await self.call.code()}"
        if reply.HasField("ack"):
            self.acknowledged = reply.ack.watermark
        if reply.HasField("delay"):
            self.delays.append(reply.delay.milliseconds)
        if reply.HasField("quarantined"):
            self.quarantined.append((reply.quarantined.first_seq, reply.quarantined.reason))
        return reply

    async def until_acknowledged(self, seq: int) -> None:
        while self.acknowledged < seq:
            await self.next()

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end; the status and what it says."""
        with suppress(grpc.aio.AioRpcError):
            while isinstance(reply := await self.call.read(), UplinkReply):
                if reply.HasField("ack"):
                    self.acknowledged = reply.ack.watermark
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
