"""Many requests to the broker at once, but not all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
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
