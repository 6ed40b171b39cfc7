"""Devices whose clocks are wrong. Their results are stored as they are, beside the time by our own clock.

Nothing is refused for its time: a device without a battery begins in 1970, and what an outbox has kept for days is old.
Retention, partitions and cursors go by our clock. That a clock is wrong is logged, when it begins and when it ends.
"""

from __future__ import annotations

import structlog

from cloud.uplink.rules import Clock, clock_of
from protos.kit.columns import Results

MAX_DEVICES = 10_000

log = structlog.get_logger()


class Clocks:
    """What this process has seen of devices' clocks."""

    def __init__(self) -> None:
        self._wrong: dict[str, Clock] = {}

    def note(self, device: str, results: Results, now_ms: int) -> None:
        """Look at the newest time in a batch."""
        found, before = clock_of(int(results.captured_us.max()), now_ms), self._wrong.get(device, Clock.RIGHT)
        if found is before:
            return
        if found is Clock.RIGHT:
            del self._wrong[device]
            log.info("device's clock is right again", device=device)
        elif len(self._wrong) < MAX_DEVICES:
            self._wrong[device] = found
            newest_ms = int(results.captured_us.max()) // 1000
            log.warning("device's clock is wrong", device=device, clock=found.value, device_ms=newest_ms, our_ms=now_ms)
