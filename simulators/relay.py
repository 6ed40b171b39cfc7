"""A bad network between clients and a real broker: it loses messages, is slow, falls silent, cuts connections.

A message with QoS 1 is lost as a faulty broker loses it: the relay acknowledges it to its sender and does not pass it
on. So a lost publication is missing on the broker for everybody, a lost delivery for one client alone. It understands
just enough of MQTT 3.1.1 and 5 for that.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from protos.kit.link import Address

CONNECT, PUBLISH, PUBACK = 1, 3, 4
MQTT5 = 5
RECEIVE_BUFFER_BYTES = 32 * 1024
"""Small, so that a slow relay is felt by who sends."""


def is_chunk(topic: str) -> bool:
    """Whether a message carries a part of a model."""
    return "/chunks/" in topic


@dataclass
class Faults:
    """What the relay does wrong; may be changed while it runs."""

    lost_publications: float = 0.0
    """The share of the clients' messages that never reaches the broker."""
    lost_deliveries: float = 0.0
    """The share of the broker's messages that never reaches the client."""
    which: Callable[[str], bool] = is_chunk
    """The topics whose messages may be lost."""
    bytes_per_s: float = 0.0
    """What a connection carries in each direction; 0: without limit."""
    silent: bool = False
    """Nothing is passed on, and no connection ends."""


@dataclass
class Traffic:
    """What came to the relay from its clients, and what it lost."""

    publications: list[tuple[str, int]] = field(default_factory=list)
    """Topic and payload's bytes of each message that a client published, lost or not."""
    bytes_published: int = 0
    """Bytes of whole packets from clients, all that a client sends over its network."""
    publications_lost: int = 0
    deliveries_lost: int = 0


class Packet(NamedTuple):
    """One control packet as it is on the wire, and where its variable header begins."""

    data: bytes
    start: int

    @property
    def kind(self) -> int:
        """What it does: PUBLISH, PUBACK, ..."""
        return self.data[0] >> 4

    @property
    def qos(self) -> int:
        """Of a PUBLISH."""
        return self.data[0] >> 1 & 3

    @property
    def topic(self) -> str:
        """Of a PUBLISH."""
        return self.data[self.start + 2 : self._behind_topic].decode()

    @property
    def acknowledgement(self) -> bytes:
        """The PUBACK for this PUBLISH: of two bytes, in both versions of MQTT."""
        return bytes([PUBACK << 4, 2]) + self.data[self._behind_topic : self._behind_topic + 2]

    @property
    def is_mqtt5(self) -> bool:
        """Of a CONNECT: whether this is how the client will speak."""
        return self.data[self.start + 6] == MQTT5

    def payload_bytes(self, *, mqtt5: bool) -> int:
        """Of a PUBLISH: without the properties that only MQTT 5 has between topic and payload."""
        begin = self._behind_topic + (2 if self.qos else 0)
        if mqtt5:
            length, begin = _number(self.data, begin)
            begin += length
        return len(self.data) - begin

    @property
    def _behind_topic(self) -> int:
        return self.start + 2 + int.from_bytes(self.data[self.start : self.start + 2], "big")


class Relay:
    """Listens on loopback, and carries each connection on to `broker`."""

    def __init__(self, broker: Address, faults: Faults | None = None, seed: int = 0) -> None:
        self._broker = broker
        self._dice = random.Random(seed)
        self._connections: set[asyncio.Task[None]] = set()
        self.faults = faults or Faults()
        self.traffic = Traffic()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Address]:
        """Where clients find it, for as long as the context lasts."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            listener.bind(("127.0.0.1", 0))
            server = await asyncio.start_server(self._connected, sock=listener, backlog=2048)
            async with server:
                yield Address("127.0.0.1", listener.getsockname()[1])
                server.close()
                self.cut()
                await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """End all connections, without a word."""
        for task in self._connections:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side ends."""
        far_reader, far_writer = await asyncio.open_connection(self._broker.host, self._broker.port)
        ways = [
            asyncio.create_task(self._pump(reader, far_writer, back=writer, up=True)),
            asyncio.create_task(self._pump(far_reader, writer, back=far_writer, up=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter, *, up: bool
    ) -> None:
        """Carry packets one way. back: to their sender."""
        mqtt5 = False
        while True:
            packet = await _read(reader)
            await self._hold_up(packet)
            if up:
                mqtt5 = packet.is_mqtt5 if packet.kind == CONNECT else mqtt5
                self._count(packet, mqtt5=mqtt5)
            if self._loses(packet, up=up):
                back.write(packet.acknowledgement)
            else:
                writer.write(packet.data)
                with suppress(ConnectionError):  # the other way's pump sees it
                    await writer.drain()

    async def _hold_up(self, packet: Packet) -> None:
        if self.faults.bytes_per_s:
            await asyncio.sleep(len(packet.data) / self.faults.bytes_per_s)
        while self.faults.silent:  # noqa: ASYNC110 - a switch, not an event
            await asyncio.sleep(0.02)

    def _count(self, packet: Packet, *, mqtt5: bool) -> None:
        self.traffic.bytes_published += len(packet.data)
        if packet.kind == PUBLISH:
            self.traffic.publications.append((packet.topic, packet.payload_bytes(mqtt5=mqtt5)))

    def _loses(self, packet: Packet, *, up: bool) -> bool:
        share = self.faults.lost_publications if up else self.faults.lost_deliveries
        if not share or packet.kind != PUBLISH or packet.qos != 1 or not self.faults.which(packet.topic):
            return False
        if self._dice.random() >= share:
            return False
        if up:
            self.traffic.publications_lost += 1
        else:
            self.traffic.deliveries_lost += 1
        return True


async def _read(reader: asyncio.StreamReader) -> Packet:
    """The next packet. Raises EOFError or OSError when there is none."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80:
        head += await reader.readexactly(1)
    length, start = _number(head, 1)
    return Packet(head + await reader.readexactly(length), start)


def _number(data: bytes, begin: int) -> tuple[int, int]:
    """The number of variable length at `begin`, and where it ends."""
    end = next(place for place in range(begin, len(data)) if not data[place] & 0x80) + 1
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[begin:end])), end
