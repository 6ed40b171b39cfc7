"""Counts what the serving model sees and says, and compares each window with the model's reference.

It works after results are durable and their source was told, on columns; frames are only looked at, not kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import structlog

from edge.drift import rules
from edge.drift.entities import Limits
from edge.foundation import clock
from edge.inference.entities import Answered, Blueprint, MicroBatch
from protos.kit import columns, differences
from protos.kit.sketches import Tally, channels_of
from protos.v1.sketches_pb2 import Drift
from protos.v1.uplink_pb2 import ResultBatch, UplinkMessage

FOLD = 4096
"""Results that are gathered as bytes before they are counted together."""

TICK_S = 1.0

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Window:
    """What is counted now, of one model. began_s: by the loop's clock."""

    blueprint: Blueprint
    tally: Tally
    began_ms: int
    began_s: float


class DriftWatch:
    """One slot's. `offer` takes what is to be sent; it must not wait."""

    def __init__(self, slot: str, limits: Limits, offer: Callable[[UplinkMessage], None]) -> None:
        self._slot = slot
        self._limits = limits
        self._offer = offer
        self._window: _Window | None = None
        self._labels: list[bytes] = []
        self._confidences: list[bytes] = []
        self._gathered = 0
        self._looked_ns = 0
        self._alarm = ""

    @property
    def alarms(self) -> tuple[str, ...]:
        """For a person: how the last window differed, if it did."""
        return (self._alarm,) if self._alarm else ()

    def take(self, answered: Answered) -> None:
        """Count frames and their results."""
        window = self._window
        if window is None or window.blueprint.manifest != answered.blueprint.manifest:
            window = self._begin(answered.blueprint)
        if not answered.blueprint.reference.HasField("sketch"):
            return  # a model from before there were references
        batch = ResultBatch.FromString(answered.outcome.payload)
        self._labels.append(batch.label)
        self._confidences.append(batch.confidence)
        self._gathered += batch.count
        if self._gathered >= FOLD:
            self._fold(window)
        self._look(window, answered.batch)

    async def run(self) -> None:
        """End windows when they are complete, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(TICK_S, self._limits.window_s))
            if window := self._window:
                self._fold(window)
                if rules.is_complete(window.tally.frames, loop.time() - window.began_s, self._limits.window_s):
                    self._end(window)

    def _begin(self, blueprint: Blueprint) -> _Window:
        if self._window and self._window.blueprint.manifest != blueprint.manifest:
            self._alarm = ""  # it was the former model's
        reference = blueprint.reference.sketch
        tally = Tally(len(reference.labels), channels_of(blueprint.frame_shape))
        began_s = asyncio.get_running_loop().time()
        self._window = _Window(blueprint, tally, clock.now_ms(), began_s)
        self._labels, self._confidences, self._gathered = [], [], 0
        return self._window

    def _fold(self, window: _Window) -> None:
        if not self._gathered:
            return
        labels = np.frombuffer(b"".join(self._labels), columns.LABEL)
        confidences = np.frombuffer(b"".join(self._confidences), columns.CONFIDENCE)
        window.tally.add(labels, confidences)
        self._labels, self._confidences, self._gathered = [], [], 0

    def _look(self, window: _Window, batch: MicroBatch) -> None:
        now_ns = time.monotonic_ns()
        if window.blueprint.frame_dtype == np.uint8 and now_ns - self._looked_ns >= rules.LOOK_NS:
            self._looked_ns = now_ns
            pixels = batch.runs[0].pixels
            window.tally.look(pixels[:: rules.stride(len(pixels))])

    def _end(self, window: _Window) -> None:
        blueprint, sketch = window.blueprint, window.tally.sketch()
        found = differences.difference(blueprint.reference.sketch, sketch)
        alarm = differences.alarm(found, self._limits.thresholds)
        self._tell(blueprint, alarm)
        drift = Drift(
            slot=self._slot,
            model=blueprint.model,
            version=blueprint.version,
            manifest=blueprint.manifest,
            variant=blueprint.variant.name,
            began_ms=window.began_ms,
            ended_ms=clock.now_ms(),
            sketch=sketch,
            alarm=alarm,
        )
        self._offer(UplinkMessage(drift=drift))
        self._begin(blueprint)

    def _tell(self, blueprint: Blueprint, alarm: str) -> None:
        named = {"model": blueprint.model, "version": blueprint.version}
        if alarm and not self._alarm:
            log.warning("what the model sees or says is not what it was made for", **named, how=alarm)
        elif self._alarm and not alarm:
            log.info("the model sees and says again what it was made for", **named)
        self._alarm = f"{blueprint.model} {blueprint.version} drifts: {alarm}" if alarm else ""
