"""One address before several replicas, as a Kubernetes Service is: each connection goes to the next that accepts it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

PIECE_BYTES = 64 * 1024


@contextmanager
def service(port: int, replicas: Sequence[int]) -> Iterator[None]:
    """Listen on `port` of loopback for the `replicas`' ports, in a thread of its own."""
    loop = asyncio.new_event_loop()
    turn = itertools.count()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turn)
        for place in range(len(replicas)):
            with suppress(OSError):
                there = await asyncio.open_connection("127.0.0.1", replicas[(first + place) % len(replicas)])
                await asyncio.gather(_pass(reader, there[1]), _pass(there[0], writer))
                return
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(connect, "127.0.0.1", port))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        _end_all(loop)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()


def _end_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
