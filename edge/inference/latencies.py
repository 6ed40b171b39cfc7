"""How long frames took, from the hand-over to the result."""

from __future__ import annotations

from collections import deque

import numpy as np

from edge.inference.entities import MicroBatch

KEPT = 4096
"""Runs of frames whose latencies are kept: the newest of the interval."""


class Latencies:
    """Of one interval. A run of frames was taken at one moment and answered at one, so it has one latency."""

    def __init__(self) -> None:
        self._runs: deque[tuple[int, int]] = deque(maxlen=KEPT)  # microseconds, frames

    def add(self, batch: MicroBatch, ended_ns: int) -> None:
        """Note a micro-batch that had its results at `ended_ns` of the monotonic clock."""
        self._runs.extend((max(0, ended_ns - run.taken_ns) // 1000, len(run)) for run in batch.runs)

    def read(self) -> tuple[int, int]:
        """Median and 95th percentile, microseconds, since the last call; zeros without frames."""
        if not self._runs:
            return 0, 0
        taken, frames = np.array(self._runs, np.int64).T
        self._runs.clear()
        order = taken.argsort()
        upto = frames[order].cumsum()
        p50, p95 = (int(taken[order][np.searchsorted(upto, share * upto[-1])]) for share in (0.5, 0.95))
        return min(p50, 2**32 - 1), min(p95, 2**32 - 1)
