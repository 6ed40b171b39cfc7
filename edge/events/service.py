"""The journal: what is told is counted or written, in the order in which it was told, and ends nothing if it cannot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import structlog

from edge.events import rules
from edge.events.entities import Entry, Recent
from edge.foundation.events import Event, Severity
from edge.uplink.entities import OutboxFailed
from edge.uplink.outbox import Outbox
from edge.uplink.spool import Spool
from protos.topics import MAX_EVENT_TEXT
from protos.v1 import uplink_pb2

MOST_UNWRITTEN = 512
"""Events that wait for the disk; beyond it the oldest are given up."""

LOOK_S = 1.0
RETRY_S = 5.0
UNNUMBERED = "journal"
MOST_NUMBER = 2**62
MOST_TIMES = 2**32 - 1

SEVERITIES: Mapping[Severity, uplink_pb2.Severity] = {
    Severity.INFO: uplink_pb2.SEVERITY_INFO,
    Severity.WARNING: uplink_pb2.SEVERITY_WARNING,
    Severity.ERROR: uplink_pb2.SEVERITY_ERROR,
}

log = structlog.get_logger()


class Journal:
    """Writes events to `outbox`, which is of nothing else. `tell` is `edge.foundation.events.Tell`.

    now_ms: Unix time; now_s: of a clock that never jumps.
    """

    def __init__(self, outbox: Outbox, now_ms: Callable[[], int], now_s: Callable[[], float] = time.monotonic) -> None:
        self._spool = Spool(outbox, UNNUMBERED, MOST_UNWRITTEN)
        self._now_ms = now_ms
        self._now_s = now_s
        self._recent: Recent = {}
        self._bell = asyncio.Event()

    def tell(self, event: Event) -> None:
        """It is written as soon as the disk takes it; the same again soon after is counted, and written later."""
        self._recent, entries = rules.told(
            self._recent, Entry(event, event.happened_ms or self._now_ms()), self._now_s()
        )
        if entries:
            self._put(entries)
            self._bell.set()

    async def run(self) -> None:
        """Write what is told until cancelled, and then what was counted and not told yet."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._bell.wait()
                self._bell.clear()
                self._recent, repeats = rules.due(self._recent, self._now_s())
                self._put(repeats)
                if not await self.write():
                    await asyncio.sleep(RETRY_S)
        finally:
            self._put(rules.all_repeats(self._recent))
            await self.write()

    async def write(self) -> bool:
        """Write what was told, now; False: the disk does not take it, and it is tried again by and by."""
        try:
            await self._spool.write()
        except OutboxFailed as error:
            log.error("events not written yet", error=str(error))
            return False
        return True

    def _put(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            event = entry.event
            series = f"{event.kind}@{event.series}" if event.series else ""
            self._spool.put(encoded(entry), series, min(event.number, MOST_NUMBER))


def encoded(entry: Entry) -> bytes:
    """As an EventBatch of one."""
    event = entry.event
    batch = uplink_pb2.EventBatch()
    batch.events.add(
        happened_ms=max(0, entry.happened_ms),
        kind=event.kind,
        severity=SEVERITIES[event.severity],
        slot=event.slot,
        model=event.model,
        version=event.version,
        text=_plain(event.text),
        times=min(event.times, MOST_TIMES) if event.times > 1 else 0,
    )
    return batch.SerializeToString()


def _plain(text: str) -> str:
    """One line of what every encoding and every database takes: errors quote names of files, which may be any bytes."""
    line = " ".join(text[: 4 * MAX_EVENT_TEXT].split())
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line)[:MAX_EVENT_TEXT]
