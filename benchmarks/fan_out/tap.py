"""Counts what one MQTT client sends: a proxy between it and the broker, which counts bytes by what they carry."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protos.kit.link import Address

PUBLISH = 3
MORE = 0x80


def kind_of(topic: str) -> str:
    """What a message of this topic is: "chunks", "manifests", "desired", ..."""
    parts = topic.split("/")
    return "chunks" if "chunks" in parts else "desired" if "desired" in parts else parts[2]


class Packets:
    """A stream of MQTT packets, taken in pieces: bytes of each kind, headers included."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Count `data`, once a packet is whole."""
        self._rest += data
        while packet := self._next():
            self.bytes[_kind(packet)] += len(packet)

    def _next(self) -> bytes:
        length, shift, at = 0, 0, 1
        while at < len(self._rest):
            length |= (self._rest[at] & ~MORE) << shift
            if not self._rest[at] & MORE:
                end = at + 1 + length
                if len(self._rest) < end:
                    return b""
                packet, self._rest = self._rest[:end], self._rest[end:]
                return packet
            shift, at = shift + 7, at + 1
        return b""


def _kind(packet: bytes) -> str:
    if packet[0] >> 4 != PUBLISH:
        return "control"
    start = 1 + next(i for i in range(1, 5) if not packet[i] & MORE)
    size = int.from_bytes(packet[start : start + 2], "big")
    return kind_of(packet[start + 2 : start + 2 + size].decode())


@asynccontextmanager
async def tap(broker: Address) -> AsyncIterator[tuple[Address, Counter[str]]]:
    """Where the client shall connect, and the bytes that it has sent so far."""
    packets: list[Packets] = []
    counted: Counter[str] = Counter()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_broker = await asyncio.open_connection(broker.host, broker.port)
        passing = Packets()
        passing.bytes = counted
        packets.append(passing)
        await asyncio.gather(_pass(reader, to_broker, passing), _pass(there, writer, None), return_exceptions=True)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1]), counted


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Packets | None) -> None:
    try:
        while data := await reader.read(256 * 1024):
            if count:
                count.feed(data)
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
