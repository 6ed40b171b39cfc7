"""One artifact's chunks over MQTT: a window of subscriptions, so that the device sets its own pace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from edge.delivery import rules
from edge.delivery.entities import Chunk, NotDelivered
from edge.delivery.partial import Partial
from edge.foundation.threads import finished
from protos import topics
from protos.kit.link import Link, Offline
from protos.v1.delivery_pb2 import RepairRequest

log = structlog.get_logger()

WINDOW = 16
MOST_WAITING = 2 * WINDOW
"""Chunks in memory that are not yet on the disk; what a broker sends beyond it is asked for again."""

FIRST_PATIENCE_S = 2.0
MOST_REPAIRS = 8
"""Requests in vain, while connected, after which the transfer ends as not delivered; what is here stays."""

Progress = Callable[[int, int], None]


class Transfer:
    """Brings the chunks that a partial file lacks."""

    def __init__(
        self, link: Link, digest: bytes, partial: Partial, progress: Progress, most_repairs: int = MOST_REPAIRS
    ) -> None:
        self._link = link
        self._digest = digest
        self._partial = partial
        self._progress = progress
        self._most_repairs = most_repairs
        self._log = log.bind(artifact=digest.hex())
        self._asked: dict[int, float] = {}
        self._done: list[int] = []
        self._arrived: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._be_patient(0)

    async def run(self) -> None:
        """Until every chunk is here. Raises NotDelivered, or OSError when the disk does not take a chunk."""
        self._tell()
        try:
            while not self._partial.download.complete:
                await self._connected()
                await self._ask()
                await self._receive()
        finally:
            await self._link.unsubscribe(*map(self._topic, [*self._asked, *self._done]))

    async def _connected(self) -> None:
        """Time without a broker is nobody's delay: the link has just subscribed again to all that was asked for."""
        if not self._link.connected.is_set():
            await self._link.connected.wait()
            self._asked = dict.fromkeys(self._asked, self._now())
            self._be_patient(self._repairs)

    async def _ask(self) -> None:
        """Fill the window once half of it is free, and give up the subscriptions that have served."""
        wanted = rules.next_wanted(self._partial.download, self._asked, WINDOW)
        if wanted and (len(wanted) >= WINDOW // 2 or not self._asked or self._are_last(wanted)):
            self._asked |= dict.fromkeys(wanted, self._now())
            await self._link.subscribe(self._take, *map(self._topic, wanted))
            done, self._done = self._done, []
            await self._link.unsubscribe(*map(self._topic, done))

    def _take(self, topic: str, data: bytes) -> None:
        """From the link: what was not asked for, or was cleared by the publisher, or is too much, is dropped."""
        _, index = topics.chunk_of(topic)
        if data and index in self._asked and self._arrived.qsize() < MOST_WAITING:
            self._arrived.put_nowait((index, data))

    async def _receive(self) -> None:
        """Put what has come to the disk; when nothing good comes for long, have it sent again."""
        try:
            async with asyncio.timeout_at(self._deadline):
                chunks = [await self._arrived.get()]
        except TimeoutError:
            await self._repair()
            return
        while not self._arrived.empty():
            chunks.append(self._arrived.get_nowait())
        for (index, _), verdict in zip(chunks, await finished(self._partial.take, chunks), strict=True):
            self._count(index, verdict)

    def _count(self, index: int, verdict: Chunk) -> None:
        if verdict is Chunk.CORRUPT:
            # It stays asked for: the good one may follow, else it is asked for again with the lost ones.
            self._log.warning("chunk is not what the manifest promises", chunk=index)
            return
        if self._asked.pop(index, None) is not None:
            self._done.append(index)
        self._be_patient(0)
        self._tell()

    async def _repair(self) -> None:
        lost = rules.overdue(self._asked, self._now(), self._patience_s)
        if not lost or not self._link.connected.is_set():
            self._be_patient(self._repairs)
            return
        if self._repairs >= self._most_repairs:
            missing = len(self._partial.download.digests) - self._partial.download.count
            raise NotDelivered(f"{missing} chunks have not come; asking again later")
        self._be_patient(self._repairs + 1)
        self._log.info("chunks asked for again", chunks=len(lost), request=self._repairs)
        missing_bits = rules.bitmap(lost, len(self._partial.download.digests))
        try:
            request = RepairRequest(artifact=self._digest, missing=missing_bits).SerializeToString()
            await self._link.publish(topics.repair(self._digest), request)
        except Offline:
            return  # the next connect subscribes again
        self._asked |= dict.fromkeys(lost, self._now())

    def _be_patient(self, repairs: int) -> None:
        """From now on wait as long as is due after so many requests in vain."""
        self._repairs = repairs
        self._patience_s = rules.patience(FIRST_PATIENCE_S, repairs, random.random())  # noqa: S311 - jitter
        self._deadline = self._now() + self._patience_s

    def _are_last(self, wanted: list[int]) -> bool:
        return self._partial.download.count + len(self._asked) + len(wanted) == len(self._partial.download.digests)

    def _tell(self) -> None:
        self._progress(self._partial.download.count, len(self._partial.download.digests))

    def _topic(self, index: int) -> str:
        return topics.chunk(self._digest, index)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
