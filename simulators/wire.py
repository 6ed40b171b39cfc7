"""A network that a test can switch off: bytes are carried both ways until it falls silent, or cuts.

Silent is what a pulled cable looks like: nothing arrives, no connection ends, and nobody is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
READ_BYTES = 64 * 1024


class Wire:
    """Listens on loopback and carries each connection on, to where `connect` leads."""

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        self._connect = connect
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._connections: set[asyncio.Task[None]] = set()

    @classmethod
    def to_port(cls, port: int) -> Wire:
        """A wire to a server on loopback."""
        return cls(lambda: asyncio.open_connection("127.0.0.1", port))

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def fall_silent(self) -> None:
        """Carry nothing any more, on no connection, new ones included."""
        self._speaks.clear()

    def speak(self) -> None:
        """Carry on, with what was held back."""
        self._speaks.set()

    def cut(self) -> None:
        """End all connections, without a word."""
        for task in self._connections:
            task.cancel()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[int]:
        """Its port, for as long as the context lasts; by itself one that is free."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        async with server:
            yield int(server.sockets[0].getsockname()[1])
            server.close()
            self.cut()
            await asyncio.gather(*self._connections, return_exceptions=True)

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
        await self._speaks.wait()
        far_reader, far_writer = await self._connect()
        ways = [
            asyncio.create_task(self._pump(reader, far_writer)),
            asyncio.create_task(self._pump(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES):
            await self._speaks.wait()
            writer.write(data)
            await writer.drain()
