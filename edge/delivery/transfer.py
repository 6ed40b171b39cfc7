"""One artifact's chunks over MQTT: a window of subscriptions, so that the device sets its own pace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import monotonic

import structlog

from edge.delivery import rules
from edge.delivery.entities import Chunk, NotDelivered
from edge.delivery.partial import Partial
from protos import topics
from protos.kit.link import Link, Offline
from protos.v1.delivery_pb2 import RepairRequest

log = structlog.get_logger()

WINDOW = 16
FIRST_PATIENCE_S = 2.0
MOST_REPAIRS = 8
"""Requests in vain, while connected, after which the transfer ends as not delivered; what is here stays."""

Progress = Callable[[int, int], None]


class Transfer:
    """Brings the chunks that a partial file lacks."""

    def __init__(self, link: Link, digest: bytes, partial: Partial, progress: Progress) -> None:
        self._link = link
        self._digest = digest
        self._partial = partial
        self._progress = progress
        self._asked: dict[int, float] = {}
        self._done: list[int] = []
        self._came = asyncio.Event()
        self._failed: OSError | None = None
        self._repairs = 0
        self._patience_s = rules.patience(FIRST_PATIENCE_S, 0, self._chance())

    async def run(self) -> None:
        """Until every chunk is here. Raises NotDelivered, or OSError when the disk does not take a chunk."""
        self._tell()
        try:
            while not self._partial.download.complete:
                await self._connected()
                await self._ask()
                await self._wait()
        finally:
            await self._link.unsubscribe(*map(self._topic, [*self._asked, *self._done]))

    async def _connected(self) -> None:
        if not self._link.connected.is_set():
            await self._link.connected.wait()
            self._asked = dict.fromkeys(self._asked, monotonic())

    async def _ask(self) -> None:
        """Fill the window once half of it is free, and give up the subscriptions that have served."""
        wanted = rules.next_wanted(self._partial.download, self._asked, WINDOW)
        if wanted and (len(wanted) >= WINDOW // 2 or not self._asked or self._is_last(wanted)):
            self._asked |= dict.fromkeys(wanted, monotonic())
            await self._link.subscribe(self._take, *map(self._topic, wanted))
            done, self._done = self._done, []
            await self._link.unsubscribe(*map(self._topic, done))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._came.wait()
        except TimeoutError:
            await self._repair()
        self._came.clear()
        if self._failed:
            raise self._failed

    async def _repair(self) -> None:
        lost = rules.overdue(self._asked, monotonic(), self._patience_s)
        if not lost or not self._link.connected.is_set():
            return
        if self._repairs >= MOST_REPAIRS:
            raise NotDelivered(f"{len(self._partial.download.missing)} chunks have not come; asking again later")
        self._repairs += 1
        self._patience_s = rules.patience(FIRST_PATIENCE_S, self._repairs, self._chance())
        bitmap = rules.bitmap(lost, len(self._partial.download.digests))
        log.info("chunks asked for again", artifact=self._digest.hex(), chunks=len(lost), request=self._repairs)
        try:
            request = RepairRequest(artifact=self._digest, missing=bitmap).SerializeToString()
            await self._link.publish(topics.repair(self._digest), request)
        except Offline:
            return  # the next connect subscribes again
        self._asked |= dict.fromkeys(lost, monotonic())

    def _take(self, topic: str, data: bytes) -> None:
        if not data:
            return  # the publisher has cleared it
        _, index = topics.chunk_of(topic)
        try:
            verdict = self._partial.take(index, data)
        except OSError as error:
            self._failed = error
            self._came.set()
            return
        if verdict is Chunk.CORRUPT:
            log.warning("chunk is not what the manifest promises", artifact=self._digest.hex(), chunk=index)
            return
        if self._asked.pop(index, None) is not None:
            self._done.append(index)
        self._repairs = 0
        self._patience_s = rules.patience(FIRST_PATIENCE_S, 0, self._chance())
        self._tell()
        self._came.set()

    def _is_last(self, wanted: list[int]) -> bool:
        return len(wanted) + len(self._asked) == len(self._partial.download.missing)

    def _tell(self) -> None:
        self._progress(self._partial.download.count, len(self._partial.download.digests))

    def _topic(self, index: int) -> str:
        return topics.chunk(self._digest, index)

    @staticmethod
    def _chance() -> float:
        return random.random()  # noqa: S311 - jitter
