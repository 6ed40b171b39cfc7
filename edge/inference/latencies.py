"""How long frames took, from the hand-over to the result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.inference.entities import MicroBatch
from protos.kit.latency import BOUNDS_US, BUCKETS

KEPT = 4096
"""Runs of frames after which their latencies are folded into the histogram. Percentiles are of the newest ones."""

_BOUNDS = np.array(BOUNDS_US, np.int64)
_NONE = np.empty((0, 2), np.int64)


class Latencies:
    """Of one interval, and counted since the start. A run was taken at one moment and answered at one: one latency."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, int]] = []  # microseconds, frames
        self._newest: NDArray[np.int64] = _NONE  # of this interval, folded already
        self._counts = np.zeros(BUCKETS, np.int64)
        self._sum_us = 0

    def add(self, batch: MicroBatch, ended_ns: int) -> None:
        """Note a micro-batch that had its results at `ended_ns` of the monotonic clock."""
        self._runs.extend((max(0, ended_ns - run.taken_ns) // 1000, len(run)) for run in batch.runs)
        if len(self._runs) >= KEPT:
            self._fold()

    def read(self) -> tuple[int, int]:
        """Median and 95th percentile, microseconds, since the last call; zeros without frames."""
        self._fold()
        (taken, frames), self._newest = self._newest.T, _NONE
        if not len(taken):
            return 0, 0
        order = taken.argsort()
        upto = frames[order].cumsum()
        p50, p95 = (int(taken[order][np.searchsorted(upto, share * upto[-1])]) for share in (0.5, 0.95))
        return min(p50, 2**32 - 1), min(p95, 2**32 - 1)

    def histogram(self) -> tuple[tuple[int, ...], int]:
        """Frames since the start in each bucket of `protos.kit.latency`, and the sum of their latencies, µs."""
        self._fold()
        return tuple(self._counts.tolist()), self._sum_us

    def _fold(self) -> None:
        if not self._runs:
            return
        runs = np.array(self._runs, np.int64)
        self._runs.clear()
        taken, frames = runs.T
        self._counts += np.bincount(np.searchsorted(_BOUNDS, taken), frames, BUCKETS).astype(np.int64)
        self._sum_us += int(taken @ frames)
        self._newest = np.concatenate([self._newest[-KEPT:], runs])
