"""Waiting for what no event tells of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once it holds; the test's own time limit is the only one."""
    while not holds():  # noqa: ASYNC110 - a test looks from outside
        await asyncio.sleep(0.005)


def until(holds: Callable[[], bool], every_s: float = 0.2) -> None:
    """The same where nothing else goes on meanwhile, and looking costs something: a program, a request."""
    while not holds():
        time.sleep(every_s)
