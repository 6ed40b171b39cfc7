"""Telemetry of many devices, written together: each sends some every second, and only the newest of each counts."""

from __future__ import annotations

import asyncio
import threading
import time

import structlog

from cloud.fleet.service import Fleet
from cloud.foundation.metrics import DATABASE_ERRORS
from protos.v1.uplink_pb2 import Telemetry

EVERY_S = 0.5

log = structlog.get_logger()


class TelemetryInbox:
    """Takes telemetry without asking the database; `run` writes what has come since, in one transaction."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lock = threading.Lock()
        self._newest: dict[str, tuple[Telemetry, int]] = {}

    def put(self, device: str, telemetry: Telemetry) -> None:
        """Keep it until the next transaction, in place of what the device sent before. From any thread."""
        with self._lock:
            self._newest[device] = (telemetry, int(time.time() * 1000))

    async def run(self) -> None:
        """Write, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            await asyncio.to_thread(self.write)

    def write(self) -> None:
        """Write what has come. If that fails it is tried again, but for what is newer by then."""
        with self._lock:
            taken, self._newest = self._newest, {}
        if not taken:
            return
        try:
            self._fleet.telemetries(taken)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next telemetry replaces this one
            DATABASE_ERRORS.labels("telemetry").inc()
            log.warning("telemetry not written yet", devices=len(taken), error=str(error).partition("\n")[0])
            with self._lock:
                self._newest = taken | self._newest
