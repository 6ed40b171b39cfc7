"""What has been kept for long enough is dropped, once an hour: results, their account, quarantine, other kinds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from cloud.uplink.entities import Kind
from cloud.uplink.service import Ingest

EVERY_S = 3600

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kept:
    """For how many whole days; 0: for ever."""

    results: int
    aggregates: int
    quarantine: int
    events: int = 0
    telemetry: int = 0


class Retention:
    """Keeps each for as long as it is set. Any number of processes may do it at once."""

    def __init__(self, ingest: Ingest, kept: Kept) -> None:
        every = (
            ("results", ingest.expire, kept.results),
            ("aggregates", ingest.expire_account, kept.aggregates),
            ("quarantine", ingest.expire_quarantine, kept.quarantine),
            ("events", partial(ingest.expire_kind, Kind.EVENTS), kept.events),
            ("telemetry", partial(ingest.expire_kind, Kind.TELEMETRY), kept.telemetry),
        )
        self._limited = [one for one in every if one[2]]

    async def run(self) -> None:
        """Drop what is too old, for ever."""
        while True:
            for what, expire, days in self._limited:
                await asyncio.to_thread(_drop, what, expire, days)
            await asyncio.sleep(EVERY_S)


def _drop(what: str, expire: Callable[[int, int], int], days: int) -> None:
    try:
        if dropped := expire(int(time.time() * 1000), days):
            log.info("dropped what was kept for long enough", what=what, dropped=dropped, days=days)
    except Exception:
        log.exception("what is too old is not dropped this time", what=what)
