"""Results made durable on the device, against the bare interpreter on the same model and threads.

The bare interpreter invokes one input again and again at its best batch size, without input or output work, in a
process of its own. The agent takes frames from a source in memory, infers, encodes and commits them. They take turns, a
second each, so that what else the machine does meets both; the measures are medians over these rounds.

`per_busy_second_*` counts the seconds that a processor works for the model's process, and for the bare interpreter's:
where the agent has a core beside, that is the rate, whatever else the machine does.
`added_us_per_frame` is the processor time of the agent beside the interpreter's own, which stands as its baseline.
`latency_*` is from the hand-over of a single frame to its durable result, an idle device before; beside it the time
that the outbox alone takes for such a commit on this disk.
`swap_pause_ms` is the longest time that no model was at work while the model was swapped a hundred times at full load;
beside it the longest in as many rounds without swaps as above.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.kit.measures import Measure, Measures
from benchmarks.on_device import models
from benchmarks.on_device.bare import Rate, bare
from benchmarks.on_device.load import Durable, Load, device
from benchmarks.on_device.models import Subject
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox

THREADS = 1
ROUNDS = 12
ROUND_S = 1.0
SINGLE_FRAMES = 300
SWAPS = 100
PAYLOAD_BYTES = 150


def run() -> Measures:
    """Measure both models, then the latency."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder:  # on a disk, not in memory
        return asyncio.run(_run(Path(folder)))


async def _run(folder: Path) -> Measures:
    print("making the models")
    subjects = models.make(folder)
    measures: dict[str, Measure] = {}
    for name, goal in (("mnist", ">= 0.9"), ("5ms", ">= 0.98")):
        async with device(subjects[name], _new(folder, name), THREADS) as load:
            measures |= await _rates(name, goal, subjects[name], load)
            if name == "mnist":
                measures |= await _swaps(subjects[name], load)
                measures |= await _latencies(load)
    return measures


async def _rates(name: str, goal: str, subject: Subject, load: Load) -> Measures:
    with bare(subject.path, THREADS) as measure:
        pairs = [(await asyncio.to_thread(measure, ROUND_S), await load.full(ROUND_S)) for _ in range(ROUNDS)]
    for interpreter, durable in pairs:
        print(f"{name}: bare {interpreter.per_second:,.0f}/s, durable {durable.frames / durable.seconds:,.0f}/s")
    busy = statistics.median(d.frames / d.worker_s for _, d in pairs)
    measures = {
        f"durable_results_{name}": _paired(pairs, goal),
        f"per_busy_second_{name}": Measure(
            busy, "results/s", statistics.median(1e6 / rate.frame_us for rate, _ in pairs)
        ),
    }
    if name == "mnist":
        added = statistics.median((d.busy_s - d.model_s) / d.frames for _, d in pairs) * 1e6
        own = statistics.median(d.model_s / d.frames for _, d in pairs) * 1e6
        measures["added_us_per_frame"] = Measure(added, "µs", own, "value <= 3")
    return measures


def _paired(pairs: Sequence[tuple[Rate, Durable]], goal: str) -> Measure:
    """Median rate of the interpreter, and the agent's by the median of the ratios within a round."""
    ratio = statistics.median(d.frames / d.seconds / rate.per_second for rate, d in pairs)
    baseline = statistics.median(rate.per_second for rate, _ in pairs)
    return Measure(ratio * baseline, "results/s", baseline, goal)


async def _swaps(subject: Subject, load: Load) -> Measures:
    without = [await load.full(ROUND_S) for _ in range(ROUNDS)]
    swaps = await load.swaps(subject, THREADS, SWAPS)
    return {
        "swap_lost_frames": Measure(swaps.lost, "frames", 0, "value <= 0"),
        "swap_pause_ms": Measure(swaps.pause_s * 1000, "ms", max(d.pause_s for d in without) * 1000, "value <= 20"),
    }


async def _latencies(load: Load) -> Measures:
    taken = [await load.one() for _ in range(SINGLE_FRAMES)]
    alone = await asyncio.to_thread(_commits, load.outbox)
    quantiles = {"p50": 50, "p99": 99}
    return {
        f"latency_{name}_ms": Measure(_ms(taken, quantile), "ms", _ms(alone, quantile))
        for name, quantile in quantiles.items()
    }


def _commits(outbox: Outbox) -> list[float]:
    """Seconds of each of many commits of one result."""
    taken = []
    for frame in range(1, SINGLE_FRAMES + 1):
        started = time.perf_counter()
        outbox.append([NewBatch(1, bytes(PAYLOAD_BYTES), "alone", frame)])
        taken.append(time.perf_counter() - started)
    return taken


def _ms(seconds: Sequence[float], quantile: float) -> float:
    return float(np.percentile(seconds, quantile)) * 1000


def _new(folder: Path, name: str) -> Path:
    made = folder / f"{name}.device"
    made.mkdir()
    return made
