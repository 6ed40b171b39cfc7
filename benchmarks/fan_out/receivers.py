"""Many devices in one process: each with a broker connection, a fetcher and a folder of its own, all as on a device."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fan_out import plain
from benchmarks.fan_out.cloud import MODEL, Published
from edge.delivery.entities import NotDelivered
from edge.delivery.mqtt import Fetcher
from edge.delivery.trust import Trust
from edge.delivery.trust_sources import FromBroker
from edge.identity.service import read_root
from edge.update.rules import pause_s
from protos.kit.link import Address, Link
from protos.v1.manifest_pb2 import Manifest

THREADS = 64
"""For all devices: one whose metadata is on its way holds one."""

CONNECTING_AT_ONCE = 50
"""Mosquitto lets a hundred connections wait to be accepted."""

REFRESH_S = 3600.0
UNCOLLECTED = 200_000
"""Between two collections: one device makes fewer in a whole delivery."""


@dataclass(frozen=True)
class Outcome:
    """When the last device was done (s, the system's monotonic clock), and the processor time of all of them, in s.

    verification: what of `processor` went into hashes, signatures, unpacking and files, and not into messages.
    received: bytes of chunks, or of the file, lost ones included.
    """

    last_s: float
    processor_s: float
    verification_s: float = 0.0
    received_bytes: int = 0


class Stopwatch(ThreadPoolExecutor):
    """The event loop's threads, which do all work on files and hashes; adds up the processor time of that work."""

    seconds = 0.0

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:  # noqa: ANN401
        """As any executor."""
        return super().submit(self.timed, fn, *arguments, **options)

    def timed(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        """Call `function` and add its processor time."""
        began = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            self.seconds += time.thread_time() - began


class DeviceLink(Link):
    """A device's link that loses each chunk with the probability `loss`, and times what is done with the other news."""

    def __init__(self, address: Address, name: str, stopwatch: Stopwatch, loss: float) -> None:
        super().__init__(address, name)
        self._stopwatch = stopwatch
        self._loss = loss
        self._randomness = random.Random(name)
        self.received_bytes = 0

    async def subscribe(self, handler: Callable[[str, bytes], Awaitable[None] | None], *topics: str) -> None:
        """As any link."""

        def lossy(topic: str, data: bytes) -> Awaitable[None] | None:
            if "/chunks/" not in topic:
                return self._stopwatch.timed(handler, topic, data)  # type: ignore[no-any-return]
            self.received_bytes += len(data)
            return None if self._randomness.random() < self._loss else handler(topic, data)

        await super().subscribe(lossy, *topics)


class Receivers:
    """The devices of one process."""

    def __init__(self) -> None:
        self._stopwatch = Stopwatch(THREADS)
        asyncio.get_running_loop().set_default_executor(self._stopwatch)
        self._links: list[DeviceLink] = []
        self._running: list[asyncio.Task[None]] = []
        self._plain = AsyncExitStack()
        self._clients: list[plain.Client] = []

    async def connect(self, broker: Address, names: Sequence[str], loss: float = 0.0) -> None:
        """Have a device of each name connected."""
        for some in _portions(names):
            links = [DeviceLink(broker, name, self._stopwatch, loss) for name in some]
            self._links += links
            self._running += [asyncio.create_task(link.run()) for link in links]
            await asyncio.gather(*(link.connected.wait() for link in links))
        _leave_garbage()

    async def fetch(self, published: Published, trust: Path, folder: Path) -> Outcome:
        """Each device fetches and verifies what was published, into a folder of its own."""
        root = read_root(trust)
        fetchers = [_fetcher(link, root, folder / str(number)) for number, link in enumerate(self._links)]
        self._stopwatch.seconds, began = 0.0, _processor_s()
        ends = await asyncio.gather(*(_fetch(fetcher, published) for fetcher in fetchers))
        received = sum(link.received_bytes for link in self._links)
        return Outcome(max(ends, default=0.0), _processor_s() - began, self._stopwatch.seconds, received)

    async def connect_plainly(self, broker: Address, names: Sequence[str]) -> None:
        """Have a client of each name connected that is nothing but a client."""
        for some in _portions(names):
            clients = [plain.client(broker, name) for name in some]
            await asyncio.gather(*(self._plain.enter_async_context(client) for client in clients))
            self._clients += clients
        _leave_garbage()

    async def receive_plainly(self, topics: Sequence[str]) -> Outcome:
        """Each client receives one message of each topic."""
        began = _processor_s()
        ends = await asyncio.gather(*(plain.receive(client, topics) for client in self._clients))
        return Outcome(max(ends, default=0.0), _processor_s() - began)

    async def download(self, url: str, digest: bytes, folder: Path, names: Sequence[str]) -> Outcome:
        """Each device downloads the file and checks its digest."""
        began = _processor_s()
        work = (plain.download(f"{url}/api/v1/artifacts/{digest.hex()}", digest, folder / name) for name in names)
        ends = await asyncio.gather(*work)
        last_s = max((ended for ended, _ in ends), default=0.0)
        return Outcome(last_s, _processor_s() - began, received_bytes=sum(received for _, received in ends))

    async def disconnect(self) -> None:
        """End all connections."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._plain.aclose()
        self._links, self._running, self._clients = [], [], []


def _fetcher(link: Link, root: bytes, folder: Path) -> Fetcher:
    trust = Trust(folder / "metadata", root, [FromBroker(link)], REFRESH_S, _now_ms)
    return Fetcher(link, trust, folder / "downloads")


async def _fetch(fetcher: Fetcher, published: Published) -> float:
    """As the agent does it, which tries again after a while; returns when the artifact was verified."""
    attempts = 0
    while True:
        try:
            await fetcher.check(MODEL, published.version, published.manifest, _now_ms())
            payload = await fetcher.manifest(published.manifest)
            artifact = Manifest.FromString(payload).variants[0].artifact
            await fetcher.artifact(artifact, lambda _present, _total: None)
            return time.monotonic()
        except NotDelivered:
            await asyncio.sleep(pause_s(attempts, random.random()))
            attempts += 1


def _leave_garbage() -> None:
    """What a thousand devices hold is nothing that any one device's collector would look through."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(UNCOLLECTED)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _portions(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + CONNECTING_AT_ONCE] for start in range(0, len(names), CONNECTING_AT_ONCE))
