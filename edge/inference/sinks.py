"""Results for the device itself: as JSON, beside the uplink, which no sink can slow or stop."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import structlog

from edge.foundation.events import Tell, untold
from edge.inference import happenings
from edge.uplink.entities import NewBatch
from protos.kit import columns
from protos.kit.columns import Results

WAITING = 256
"""Micro-batches that a slow sink may be behind; then it loses the oldest."""

COMPLAIN_S = 60.0
STDOUT = Path("-")

Write = Callable[[Results], Awaitable[None]]

log = structlog.get_logger()


def as_json(results: Results) -> list[dict[str, object]]:
    """An object for each result, in order. Confidences with four digits: more say nothing."""
    names = {"source": results.source, "slot": results.slot, "model": results.model, "version": results.version}
    found = zip(
        results.frame.tolist(),
        results.captured_us.tolist(),
        results.label.tolist(),
        np.round(results.confidence.astype(np.float64), 4).tolist(),
        strict=True,
    )
    return [
        {**names, "frame": frame, "captured_us": captured, "label": label, "confidence": confidence}
        for frame, captured, label, confidence in found
    ]


class Sink:
    """Hands durable results to `write`, in order. dropped: micro-batches that it lost, being too slow or failing.

    tell: hears of that, once in a while.
    """

    def __init__(self, name: str, write: Write) -> None:
        self.dropped = 0
        self.name = name
        self.tell: Tell = untold
        self._write = write
        self._waiting: deque[NewBatch] = deque()
        self._bell = asyncio.Event()
        self._complained = -COMPLAIN_S
        self._told = 0  # how many of those dropped were told

    def offer(self, batch: NewBatch) -> None:
        """Results that are durable. Returns at once."""
        if not batch.count:
            return
        self._waiting.append(batch)
        if len(self._waiting) > WAITING:
            self._waiting.popleft()
            self._lose("it is too slow")
        self._bell.set()

    async def run(self) -> None:
        """Write what is offered until cancelled."""
        while True:
            if not self._waiting:
                self._bell.clear()
                await self._bell.wait()
            batch = self._waiting.popleft()
            try:
                await self._write(columns.decode(batch.payload, batch.count))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a sink is not to end the agent
                self._lose(str(error) or type(error).__name__)

    def _lose(self, reason: str) -> None:
        self.dropped += 1
        now = asyncio.get_running_loop().time()
        if now - self._complained >= COMPLAIN_S:
            self._complained = now
            log.warning("a sink loses results", sink=self.name, lost_batches=self.dropped, reason=reason)
            self.tell(happenings.sink_loses(self.name, self.dropped - self._told, reason))
            self._told = self.dropped


def to_file(path: Path) -> Write:
    """Append JSON lines to a file, or to standard output where the path is "-"."""

    def append(lines: bytes) -> None:
        if path == STDOUT:
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()
            return
        with path.open("ab") as file:
            file.write(lines)

    async def write(results: Results) -> None:
        lines = b"".join(json.dumps(found).encode() + b"\n" for found in as_json(results))
        await asyncio.to_thread(append, lines)

    return write
