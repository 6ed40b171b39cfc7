"""Many requests to the broker at once, but not all, and the small ones first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count
from typing import TypeVar

T = TypeVar("T")


async def in_window(width: int, action: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """Await `action` for every item, `width` at a time, begun in order. The first failure is raised; no more begin."""
    remaining = iter(items)
    stopped = False

    async def work() -> None:
        nonlocal stopped
        for item in remaining:
            if stopped:
                return
            try:
                await action(item)
            except BaseException:
                stopped = True
                raise

    outcomes = await asyncio.gather(*(work() for _ in range(width)), return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


class Slots:
    """Places that many jobs share; a free one goes to the smallest job that waits: a large one holds up none."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    @asynccontextmanager
    async def one(self, size: int) -> AsyncIterator[None]:
        """A place within the block, for a part of a job of this size."""
        await self._take(size)
        try:
            yield
        finally:
            self._give()

    async def _take(self, size: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (size, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the place was given to a task that is no more
                self._give()
            raise

    def _give(self) -> None:
        while self._waiting:
            _, _, turn = heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
