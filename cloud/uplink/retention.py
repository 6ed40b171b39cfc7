"""Results that have been kept for long enough are dropped, once an hour."""

from __future__ import annotations

import asyncio
import time

import structlog

from cloud.uplink.service import Ingest

EVERY_S = 3600

log = structlog.get_logger()


class Retention:
    """Keeps results for `days` whole days. Any number of processes may do it at once."""

    def __init__(self, ingest: Ingest, days: int) -> None:
        self._ingest = ingest
        self._days = days

    async def run(self) -> None:
        """Drop what is too old, for ever."""
        while True:
            await asyncio.to_thread(self._expire)
            await asyncio.sleep(EVERY_S)

    def _expire(self) -> None:
        try:
            if dropped := self._ingest.expire(int(time.time() * 1000), self._days):
                log.info("results dropped that were kept for long enough", results=dropped, days=self._days)
        except Exception:
            log.exception("results that are too old are not dropped this time")
