"""Whether this agent lives and serves, as its supervisors ask: systemd's watchdog, Kubernetes' probes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from edge.foundation import sd_notify
from edge.inference.service import Inference
from edge.reporting import rules

BEAT_S = 1.0


class Health:
    """The heartbeat of the event loop. `live` and `ready` may be asked from any thread, also while the loop hangs.

    inferences: of all slots.
    """

    def __init__(self, inferences: Sequence[Inference], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._inferences = inferences
        self._clock_s = clock_s
        self._beat_s = clock_s()
        self._lost_s: dict[Inference, float] = {}  # since when a serving model has no process

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
        self._lost_s = {one: self._lost_s.get(one, now_s) for one in self._inferences if one.blueprint and not one.pid}

    def live(self) -> str:
        """What a start anew may mend; empty: all lives."""
        now_s = self._clock_s()
        worker_lost_s = now_s - min(self._lost_s.values(), default=now_s)
        return rules.lifelessness(now_s - self._beat_s, worker_lost_s)

    def ready(self) -> str:
        """Why frames are not answered now; empty: every slot that has a model serves, and one has."""
        if problem := self.live():
            return problem
        serving = [one for one in self._inferences if one.blueprint]
        if not serving:
            return "no model is committed yet"
        return "" if all(one.pid for one in serving) else "the model's process is started again"
