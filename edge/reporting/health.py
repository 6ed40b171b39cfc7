"""Whether this agent lives and serves, as its supervisors ask: systemd's watchdog, Kubernetes' probes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from edge.foundation import sd_notify
from edge.inference.service import Inference
from edge.reporting import rules

BEAT_S = 1.0


class Health:
    """The heartbeat of the event loop. `live` and `ready` may be asked from any thread, also while the loop hangs."""

    def __init__(self, inference: Inference, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._inference = inference
        self._clock_s = clock_s
        self._beat_s = clock_s()
        self._worker_lost_s: float | None = None  # since when the serving model has no process

    async def run(self) -> None:
        """Beat until cancelled, and let systemd know: it ends and starts again an agent whose loop hangs."""
        watched_s = sd_notify.watchdog_s()
        pause_s = min(BEAT_S, watched_s / 3) if watched_s else BEAT_S
        while True:
            self.beat()
            if watched_s:
                sd_notify.notify(sd_notify.ALIVE)
            await asyncio.sleep(pause_s)

    def beat(self) -> None:
        """The loop lives now."""
        self._beat_s = now_s = self._clock_s()
        is_lost = self._inference.blueprint is not None and self._inference.pid is None
        self._worker_lost_s = (self._worker_lost_s or now_s) if is_lost else None

    def live(self) -> str:
        """What a start anew may mend; empty: all lives."""
        now_s = self._clock_s()
        worker_lost_s = now_s - self._worker_lost_s if self._worker_lost_s is not None else 0.0
        return rules.lifelessness(now_s - self._beat_s, worker_lost_s)

    def ready(self) -> str:
        """Why no frame is answered now; empty: a model serves."""
        if problem := self.live():
            return problem
        if self._inference.blueprint is None:
            return "no model is committed yet"
        return "" if self._inference.pid else "the model's process is started again"
