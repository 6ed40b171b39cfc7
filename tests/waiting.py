"""Waiting for what no event tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once it holds; the test's own time limit is the only one."""
    while not holds():  # noqa: ASYNC110 - a test looks from outside
        await asyncio.sleep(0.005)
