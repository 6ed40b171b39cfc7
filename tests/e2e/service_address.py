"""One address before several replicas, as a Kubernetes Service is: each connection goes to the next that accepts it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from simulators.wire import Streams, Wire


@contextmanager
def service(port: int, replicas: Sequence[int]) -> Iterator[None]:
    """Listen on `port` of loopback for the `replicas`' ports, in a thread of its own."""
    turn = itertools.cycle(replicas)
    loop, stop, listening = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def connect() -> Streams:
        for replica in itertools.islice(turn, len(replicas)):
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", replica)
        raise ConnectionRefusedError("no replica takes it")

    async def serve() -> None:
        async with Wire(connect).serving(port):
            listening.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    listening.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
