"""What waits to be committed: a queue for each stream, and the streams take turns, so that none waits for a flood."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from cloud.uplink.entities import Outcome, ReceivedBatch

ROW_COST = 64
"""Bytes that a batch is reckoned to take beside its payload while it waits: guards against many tiny batches."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch, since when it waits (in the loop's seconds), and who is told its outcome."""

    batch: ReceivedBatch
    since: float
    outcome: asyncio.Future[Outcome]

    @property
    def cost(self) -> int:
        """Bytes that it takes."""
        return len(self.batch.payload) + ROW_COST


class Turns:
    """Batches by stream, each stream's in their order."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[Waiting]] = {}  # in the order of their turns
        self.rows = 0

    def __iter__(self) -> Iterator[Waiting]:
        for queue in self._queues.values():
            yield from queue

    def __bool__(self) -> bool:
        return bool(self._queues)

    @property
    def oldest_since(self) -> float:
        """Since when the batch waits that has waited for longest; there must be one."""
        return min(queue[0].since for queue in self._queues.values())

    def add(self, waiting: Waiting) -> None:
        """Queue a batch behind those of its stream."""
        self._queues.setdefault(waiting.batch.stream, deque()).append(waiting)
        self.rows += waiting.batch.rows

    def take(self, rows: int) -> list[Waiting]:
        """Batches that make up at most `rows`, one of each stream in turn; at least one if there is any."""
        taken: list[Waiting] = []
        total = 0
        while self._queues:
            stream, queue = next(iter(self._queues.items()))
            if taken and total + queue[0].batch.rows > rows:
                break
            taken.append(queue.popleft())
            total += taken[-1].batch.rows
            del self._queues[stream]
            if queue:
                self._queues[stream] = queue  # its next turn comes after all others'
        self.rows -= total
        return taken
