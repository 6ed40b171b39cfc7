"""Samples that have been kept for long enough, or are too many, are dropped, once an hour."""

from __future__ import annotations

import asyncio
import time

import structlog

from cloud.samples.service import Samples

EVERY_S = 3600

log = structlog.get_logger()


class SampleRetention:
    """Keeps samples for `days` days, and in `most_bytes`; 0: without limit. Several processes may do it at once."""

    def __init__(self, samples: Samples, days: int, most_bytes: int) -> None:
        self._samples = samples
        self._days = days
        self._most_bytes = most_bytes

    async def run(self) -> None:
        """Drop what is too old or too much, for ever."""
        while True:
            await asyncio.to_thread(self._expire)
            await asyncio.sleep(EVERY_S)

    def _expire(self) -> None:
        try:
            if dropped := self._samples.expire(int(time.time() * 1000), self._days, self._most_bytes):
                log.info("samples dropped", samples=dropped, days=self._days, bytes=self._most_bytes)
        except Exception:
            log.exception("samples that are too old or too many are not dropped this time")
