"""What comes one at a time, an event or an interval, on its way into an outbox.

It is numbered when it comes and written when the disk takes it, so that writing it twice writes it once.
"""

from __future__ import annotations

from edge.foundation.threads import finished
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox


class Spool:
    """Into `outbox`, as of `source`. most: so many may wait for the disk; beyond it the oldest are given up.

    given_up: how many.
    """

    def __init__(self, outbox: Outbox, source: str, most: int) -> None:
        self.given_up = 0
        self._outbox = outbox
        self._source = source
        self._most = most
        self._last = outbox.source_watermark(source)
        self._unwritten: list[NewBatch] = []

    def put(self, payload: bytes, series: str = "", number: int = 0) -> None:
        """It is to be written. With a number it is of a series of its own, and is not if that was written before."""
        if not series:
            self._last += 1
        batch = NewBatch(1, payload, series or self._source, number if series else self._last)
        self._unwritten.append(batch)
        if len(self._unwritten) > self._most:
            del self._unwritten[0]
            self.given_up += 1

    async def write(self) -> None:
        """All that is to be written, in one commit. Raises OutboxFailed: then it waits for the next time."""
        if going := list(self._unwritten):
            await finished(self._outbox.append, going)
            written = set(map(id, going))
            self._unwritten = [batch for batch in self._unwritten if id(batch) not in written]
