"""What has been kept for long enough is dropped, once an hour."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

EVERY_S = 3600

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept for `days` whole days; 0: for ever. expire: of (now in Unix ms, days); tells how many went."""

    what: str
    days: int
    expire: Callable[[int, int], int]


class Retention:
    """Keeps each for as long as it is set. Any number of processes may do it at once."""

    def __init__(self, kept: Iterable[Kept]) -> None:
        self._limited = [one for one in kept if one.days]

    async def run(self) -> None:
        """Drop what is too old, for ever."""
        while True:
            for one in self._limited:
                await asyncio.to_thread(_drop, one)
            await asyncio.sleep(EVERY_S)


def _drop(one: Kept) -> None:
    try:
        if dropped := one.expire(int(time.time() * 1000), one.days):
            log.info("dropped what was kept for long enough", what=one.what, dropped=dropped, days=one.days)
    except Exception:
        log.exception("what is too old is not dropped this time", what=one.what)
