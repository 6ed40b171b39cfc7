"""Telemetry, interval by interval, into its outbox: what the device did while nobody asked is history, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from edge.reporting import rules
from edge.uplink.entities import OutboxFailed
from edge.uplink.outbox import Outbox
from edge.uplink.spool import Spool
from protos.v1.uplink_pb2 import Telemetry, TelemetryBatch

SOURCE = "telemetry"
MOST_UNWRITTEN = 60

log = structlog.get_logger()


class Intervals:
    """Measures every `every_s` seconds while `is_taken` says that the cloud takes it, seldom while it does not.

    measure: what happened since the last call, so many seconds ago.
    """

    def __init__(
        self, measure: Callable[[float], Telemetry], outbox: Outbox, is_taken: Callable[[], bool], every_s: float
    ) -> None:
        self._measure = measure
        self._spool = Spool(outbox, SOURCE, MOST_UNWRITTEN)
        self._is_taken = is_taken
        self._every_s = every_s

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(self._every_s)
            now = loop.time()
            if rules.is_interval(now - before, self._every_s, is_taken=self._is_taken()):
                await self._keep(now - before)
                before = now

    async def _keep(self, interval_s: float) -> None:
        batch = TelemetryBatch(intervals=[self._measure(interval_s)])
        self._spool.put(batch.SerializeToString())
        try:
            await self._spool.write()
        except OutboxFailed as error:
            log.error("telemetry not written yet", error=str(error))
