"""One run's broker, cloud and devices, put together on this machine."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.fan_out import plain
from benchmarks.fan_out.cloud import Cloud, Published
from benchmarks.fan_out.receivers import Outcome, Receivers
from benchmarks.fan_out.tap import tap
from benchmarks.fan_out.workers import Worker
from cloud.foundation.broker import embedded_broker
from protos import topics
from protos.kit.link import QOS, Address
from simulators.ports import free_port

PROCESSES = 2
"""That the devices are shared out over."""


@dataclass(frozen=True)
class Took:
    """Seconds until the last device was done, and what was done until then, in processor seconds.

    processor_s: of all devices' processes. verification_s: what of it was verification. broker_s: of the broker.
    received_bytes: by all devices, of chunks or of the file.
    """

    seconds: float
    processor_s: float
    verification_s: float
    broker_s: float
    received_bytes: int


class Site:
    """The processes, which last for all runs; `folder` is where everybody keeps files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._runs = 0

    def __enter__(self) -> Site:
        self.cloud = self._stack.enter_context(Worker(Cloud))
        self.workers = [self._stack.enter_context(Worker(Receivers)) for _ in range(PROCESSES)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @asynccontextmanager
    async def publishing(self, size: int, devices: int) -> AsyncIterator[Run]:
        """A new broker and a new cloud, which has published a file of `size` bytes for so many devices."""
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        broker = embedded_broker("mosquitto", "127.0.0.1", free_port(), folder)
        async with broker as address, tap(address) as (tapped, sent):
            url, trust = await self.cloud.ask("open", folder / "cloud", tapped)
            try:
                sent.clear()
                published = await self.cloud.ask("publish", size, self._runs, devices)
                yield Run(self, folder, address, url, trust, published, devices, sent)
            finally:
                await self.each("disconnect", [() for _ in self.workers])
                await self.cloud.ask("close")
        await asyncio.to_thread(shutil.rmtree, folder)

    async def each(self, name: str, arguments: Iterable[Sequence[object]]) -> list[Outcome]:
        """Ask every process of devices at once, each with its own arguments."""
        asked = zip(self.workers, arguments, strict=True)
        answers = await asyncio.gather(*(worker.ask(name, *own) for worker, own in asked), return_exceptions=True)
        if failed := [answer for answer in answers if isinstance(answer, BaseException)]:
            raise failed[0]
        return [answer for answer in answers if not isinstance(answer, BaseException)]


@dataclass(frozen=True)
class Run:
    """A published artifact, and so many devices that lack it."""

    site: Site
    folder: Path
    broker: Address
    url: str
    trust: Path
    published: Published
    devices: int
    sent: Counter[str]

    @property
    def cloud_bytes(self) -> int:
        """What the cloud has sent to the broker, orders to single devices apart."""
        return sum(self.sent.values()) - self.sent["desired"]

    async def deliver(self, loss: float = 0.0) -> tuple[Took, Took]:
        """By the real thing: what trust's metadata took, which comes when a version is registered; then the delivery.

        loss: the share of chunks that get lost between the broker and each device.
        """
        await self.site.each("connect", [(self.broker, names, loss) for names in self._shares("device")])
        with self._folders() as folders:
            metadata = await self._timed("refresh", [(self.published, self.trust, folder) for folder in folders])
            took = await self._timed("fetch", [(self.published,) for _ in folders])
            await self.site.each("disconnect", [() for _ in folders])
        return metadata, took

    async def fan_out(self) -> Took:
        """By plain MQTT clients that subscribe to the same messages."""
        await self.site.each("connect_plainly", [(self.broker, names) for names in self._shares("plain")])
        wanted = [topics.manifest(self.published.manifest), *self._chunks()]
        took = await self._timed("receive_plainly", [(wanted,) for _ in self.site.workers])
        await self.site.each("disconnect", [() for _ in self.site.workers])
        return took

    async def download(self) -> Took:
        """By HTTP, each device from the API."""
        with self._folders() as folders:
            shares = list(zip(folders, self._shares("http"), strict=True))
            warm_up = [(self.url, self.published.artifact, folder, ["first"]) for folder in folders]
            await self.site.each("download", warm_up)
            return await self._timed("download", [(self.url, self.published.artifact, *share) for share in shares])

    async def lose_at_the_broker(self, share: float) -> None:
        """Have the broker forget so many of the chunks, chosen at random."""
        names = self._chunks()
        lost = random.Random(self.devices).sample(names, round(share * len(names)))
        async with plain.client(self.broker, "loss") as client:
            for topic in lost:
                await client.publish(topic, b"", QOS, retain=True)

    async def _timed(self, name: str, arguments: Sequence[Sequence[object]]) -> Took:
        broker_s, began = _broker_s(self.folder), time.monotonic()
        outcomes = await self.site.each(name, arguments)
        return Took(
            max(outcome.last_s for outcome in outcomes) - began,
            sum(outcome.processor_s for outcome in outcomes),
            sum(outcome.verification_s for outcome in outcomes),
            _broker_s(self.folder) - broker_s,
            sum(outcome.received_bytes for outcome in outcomes),
        )

    def _chunks(self) -> list[str]:
        return [topics.chunk(self.published.artifact, index) for index in range(len(self.published.chunks))]

    def _shares(self, prefix: str) -> list[list[str]]:
        names = [f"{prefix}-{number}" for number in range(self.devices)]
        return [names[start::PROCESSES] for start in range(PROCESSES)]

    @contextmanager
    def _folders(self) -> Iterator[list[Path]]:
        """One for the devices of each process."""
        folders = [self.folder / f"devices-{number}" for number in range(PROCESSES)]
        for folder in folders:
            folder.mkdir()
        yield folders
        for folder in folders:
            shutil.rmtree(folder)


def _broker_s(folder: Path) -> float:
    """Processor time, in s, of the broker whose configuration is in `folder`, since its start."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(folder / "mosquitto.conf").encode() in (process / "cmdline").read_bytes().split(b"\0"):
                ticks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
                return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    raise FileNotFoundError(f"no broker runs with {folder}/mosquitto.conf")
