"""One artifact's chunks over MQTT: a window of subscriptions, so that the device sets its own pace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from edge.delivery import rules
from edge.delivery.entities import Asked, Chunk, Limits, NotDelivered, Step
from edge.delivery.partial import Partial
from edge.foundation.threads import finished
from protos import topics
from protos.kit.link import Link, Offline
from protos.v1.delivery_pb2 import RepairRequest

log = structlog.get_logger()

MOST_WAITING = 64
"""Chunks in memory that are not yet on the disk; what a broker sends beyond it is asked for again."""

GATHER_S = 0.001
"""Chunks that come together go to a thread, and to the disk, together."""

FIRST_PATIENCE_S = 2.0
"""For a chunk, while none has shown how long one takes."""
MOST_REPAIRS = 6
"""Requests to the cloud for one chunk, minutes in all, after which the transfer ends as not delivered; what is here
stays."""

Progress = Callable[[int, int], None]


class Transfer:
    """Brings the chunks that a partial file lacks."""

    def __init__(
        self,
        link: Link,
        digest: bytes,
        partial: Partial,
        progress: Progress,
        limits: Limits,
        *,
        most_repairs: int = MOST_REPAIRS,
    ) -> None:
        self._link = link
        self._digest = digest
        self._partial = partial
        self._progress = progress
        self._most_repairs = most_repairs
        self._jitter_s = limits.jitter_s
        self._log = log.bind(artifact=digest.hex())
        self._now = asyncio.get_running_loop().time
        self._asked: dict[int, Asked] = {}
        self._arrived: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._pace = rules.Pace()
        self._budget = rules.Budget(limits.rate, at_s=self._now())
        self._haste = random.random()  # noqa: S311 - spreads a fleet, keeps no secret

    async def run(self, then: Callable[[], None]) -> None:
        """Until every chunk is here and `then` is done, which is called at once by the thread that wrote the last one.

        Raises NotDelivered, OSError when the disk does not take a chunk, or what `then` raises.
        """
        self._tell()
        if self._partial.download.complete:
            return await finished(then)
        await asyncio.sleep(self._jitter_s * self._haste)
        try:
            while not self._partial.download.complete:
                await self._connected()
                await self._ask_again()
                await self._ask()
                await self._receive(then)
        finally:
            self._link.unsubscribe(*map(self._topic, self._asked))

    async def _connected(self) -> None:
        """Time without a broker is nobody's delay: the link has just subscribed again to all that was asked for."""
        if not self._link.connected.is_set():
            await self._link.connected.wait()
            self._granted(self._asked)

    async def _ask(self) -> None:
        """Fill the window once half of it is free."""
        self._budget = self._budget.at(self._now())
        window = int(self._pace.window)
        on_time = sum(not asked.attempts for asked in self._asked.values())
        free = min(window - on_time, rules.MOST_ASKED - len(self._asked))
        wanted = rules.next_wanted(self._partial.download, self._asked, free)
        if len(wanted) < window // 2 and on_time and not self._are_last(wanted):
            return
        wanted, self._budget = rules.affordable(self._budget, self._partial.download.sizes, wanted)
        if wanted:
            self._asked |= dict.fromkeys(wanted, Asked(self._now(), self._now()))
            await self._subscribe(wanted)

    async def _subscribe(self, indices: list[int]) -> None:
        """What does not come is overdue from the broker's answer on: a slow one is given its time."""
        await self._link.subscribe(self._take, *map(self._topic, indices))
        self._granted(indices)

    def _granted(self, indices: Iterable[int]) -> None:
        for index in indices:
            if index in self._asked:
                self._asked[index] = replace(self._asked[index], since_s=self._now())

    def _take(self, topic: str, data: bytes) -> None:
        """From the link: what was not asked for, or was cleared by the publisher, or is too much, is dropped."""
        _, index = topics.chunk_of(topic)
        asked = self._asked.get(index)
        if data and asked and self._arrived.qsize() < MOST_WAITING:
            self._arrived.put_nowait((index, data))
            if not asked.attempts:
                self._pace = rules.came(self._pace, self._now() - asked.requested_s, self._now())

    async def _receive(self, then: Callable[[], None]) -> None:
        """Put what has come to the disk, if anything comes before something else is to be done."""
        try:
            async with asyncio.timeout_at(self._next_s()):
                chunks = [await self._arrived.get()]
        except TimeoutError:
            return
        if len(chunks) + self._arrived.qsize() < len(self._asked):
            await asyncio.sleep(GATHER_S)
        while not self._arrived.empty():
            chunks.append(self._arrived.get_nowait())
        for (index, _), verdict in zip(chunks, await finished(self._take_up, chunks, then), strict=True):
            self._count(index, verdict)

    def _take_up(self, chunks: list[tuple[int, bytes]], then: Callable[[], None]) -> list[Chunk]:
        verdicts = self._partial.take(chunks)
        if self._partial.download.complete:
            then()
        return verdicts

    def _next_s(self) -> float:
        """When a chunk is overdue, or the next may be asked for."""
        if self._budget.in_debt:
            return self._budget.free_s
        return min((self._overdue_s(asked) for asked in self._asked.values()), default=self._now())

    def _count(self, index: int, verdict: Chunk) -> None:
        if verdict is Chunk.CORRUPT:
            self._log.warning("chunk is not what the manifest promises", chunk=index)
            if index in self._asked:  # it stays asked for: the good one may follow
                self._asked[index] = rules.corrupted(self._asked[index])
            return
        if self._asked.pop(index, None):
            self._link.unsubscribe(self._topic(index))
        self._tell()

    async def _ask_again(self) -> None:
        """For what is overdue: first the broker, then the cloud."""
        now_s = self._now()
        lost = sorted(index for index, asked in self._asked.items() if self._overdue_s(asked) <= now_s)
        if not lost or not self._link.connected.is_set():
            return
        lost, self._budget = rules.affordable(self._budget.at(now_s), self._partial.download.sizes, lost)
        steps = {index: rules.next_step(self._asked[index].attempts) for index in lost}
        for index in lost:
            self._asked[index] = replace(self._asked[index], attempts=self._asked[index].attempts + 1, since_s=now_s)
        await self._repair([index for index in lost if steps[index] is Step.REPAIR])
        await self._subscribe([index for index in lost if steps[index] is Step.RESUBSCRIBE])

    async def _repair(self, lost: list[int]) -> None:
        if not lost:
            return
        rounds = max(rules.rounds(self._asked[index].attempts) for index in lost)
        if rounds > self._most_repairs:
            missing = len(self._partial.download.digests) - self._partial.download.count
            raise NotDelivered(f"{missing} chunks have not come; asking again later")
        self._log.info("chunks asked for again", chunks=len(lost), request=rounds)
        bits = rules.bitmap(lost, len(self._partial.download.digests))
        try:
            request = RepairRequest(artifact=self._digest, missing=bits).SerializeToString()
            await self._link.publish(topics.repair(self._digest), request)
        except Offline:
            return  # the next connect subscribes again

    def _overdue_s(self, asked: Asked) -> float:
        return rules.overdue_s(asked, self._pace.patience_s(FIRST_PATIENCE_S), self._haste)

    def _are_last(self, wanted: list[int]) -> bool:
        return self._partial.download.count + len(self._asked) + len(wanted) == len(self._partial.download.digests)

    def _tell(self) -> None:
        self._progress(self._partial.download.count, len(self._partial.download.digests))

    def _topic(self, index: int) -> str:
        return topics.chunk(self._digest, index)
