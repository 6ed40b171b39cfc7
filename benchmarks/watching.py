"""What watching a model costs the device: drift counted, and a challenger beside the champion, at full load.

Rounds of a second take turns: the champion alone, with its drift counted, with a challenger (the same model) that is to
answer a tenth of the frames. Measures are medians over the rounds, ratios of results those within a round.

`added_us_drift`, `added_us_challenger`: the processor time of a frame in the agent and the champion's process beside
the interpreter's own, with drift counted or with a challenger; their baseline without either. The challenger's own
process is not in it. `results_beside_challenger` is what becomes durable beside what does for the champion alone.
`challenger_share` is the share of the frames that the challenger has answered, where it had only what was left of the
processors; its baseline what it was to answer.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.kit.measures import Measure, Measures
from benchmarks.on_device import models
from benchmarks.on_device.load import Durable, Load, blueprint, device
from edge.drift.entities import Limits
from edge.drift.service import DriftWatch
from edge.inference.entities import Answered, Blueprint
from edge.shadow.disagreements import Folder
from edge.shadow.record import Record
from edge.shadow.service import Ports, Shadow
from edge.update.entities import Target
from protos.kit.sketches import Tally
from protos.v1.sketches_pb2 import Comparison, Reference
from protos.v1.uplink_pb2 import UplinkMessage

THREADS = 1
ROUNDS = 12
ROUND_S = 1.0
SHARE = 0.1
WINDOW_S = 2.0
CLASSES = 10
PIXELS = 28 * 28
CHALLENGER = b"\2" * 32

Watcher = Callable[[Answered], None]


@dataclass(slots=True)
class Switch:
    """Stands among inference's watchers, and hands on to the one that is measured now."""

    watcher: Watcher | None = None

    def take(self, answered: Answered) -> None:
        """As any watcher."""
        if self.watcher:
            self.watcher(answered)


@dataclass(frozen=True, slots=True)
class Round:
    """One of each."""

    alone: Durable
    drift: Durable
    challenger: Durable


def run() -> Measures:
    """Measure the MNIST model."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder:  # on a disk, not in memory
        return asyncio.run(_run(Path(folder)))


async def _run(folder: Path) -> Measures:
    print("making the models")
    subject = models.make(folder)["mnist"]
    told: list[Comparison] = []
    async with device(subject, folder, THREADS) as load:
        switch, known = Switch(), replace(blueprint(subject, THREADS), reference=_reference())
        load.inference.on_answered(switch.take)
        await load.inference.use(known)
        drift = DriftWatch("default", Limits(WINDOW_S), lambda _: None)
        async with _running(drift.run()), _challenger(folder, known, told) as shadow:
            rounds = [await _round(load, switch, drift.take, shadow.take) for _ in range(ROUNDS)]
    return _measures(rounds, told[-1])


async def _round(load: Load, switch: Switch, drift: Watcher, shadow: Watcher) -> Round:
    found = []
    for watcher in (None, drift, shadow):
        switch.watcher = watcher
        found.append(await load.full(ROUND_S))
    made = Round(*found)
    print(", ".join(f"{name} {_rate(getattr(made, name)):,.0f}/s" for name in ("alone", "drift", "challenger")))
    return made


def _measures(rounds: Sequence[Round], told: Comparison) -> Measures:
    alone = statistics.median(_rate(one.alone) for one in rounds)

    beside = statistics.median(_rate(one.challenger) / _rate(one.alone) for one in rounds)

    def added(name: str) -> Measure:
        with_it = statistics.median(_added_us(getattr(one, name)) for one in rounds)
        return Measure(with_it, "µs", statistics.median(_added_us(one.alone) for one in rounds), "value <= 3")

    return {
        "added_us_drift": added("drift"),
        "added_us_challenger": added("challenger"),
        "results_beside_challenger": Measure(beside * alone, "results/s", alone, ">= 0.9"),
        "challenger_share": Measure(told.compared / max(1, told.offered), "of the frames", SHARE),
    }


def _rate(durable: Durable) -> float:
    return durable.frames / durable.seconds


def _added_us(durable: Durable) -> float:
    return (durable.busy_s - durable.model_s) / durable.frames * 1e6


def _reference() -> Reference:
    tally = Tally(CLASSES, 1)
    tally.add(np.arange(1000, dtype=np.uint16) % CLASSES, np.full(1000, 0.99, np.float32))
    tally.look(np.full((100, PIXELS), 128, np.uint8))
    return Reference(sketch=tally.sketch())


@asynccontextmanager
async def _challenger(folder: Path, champion: Blueprint, told: list[Comparison]) -> AsyncIterator[Shadow]:
    target = Target("default.shadow", champion.model, 2, CHALLENGER, 1, 0, 2**60, "", SHARE)

    def offer(message: UplinkMessage) -> None:
        told.append(message.comparison)

    kept = Folder(folder / "disagreements", 0)
    shadow = Shadow("default", Record(folder, "default"), Ports(lambda: target, offer, kept, kept), 1.0)
    await shadow.use(replace(champion, manifest=CHALLENGER, version=2))
    async with _running(shadow.run()):
        yield shadow


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
