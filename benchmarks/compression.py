"""What packing batches of results saves on the line, and what it costs.

`bytes_…`: bytes a result on the line, packed, beside those unpacked; for batches of 64 results (one micro-batch), 500,
and 4,096 (a full one). `pack_us_…`, `unpack_us_…`: microseconds a result, the median of 50 batches. Results as a good
model gives them: captured at a hundred a second with a jitter, most of them sure, confidences in steps of 1/256 as an
int8 model has them, latencies around a hundred microseconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from benchmarks.kit.measures import Measure, Measures
from protos.kit.columns import Results, encode
from protos.kit.packing import pack, unpack

SIZES = (64, 500, 4096)
BATCHES = 50
JITTER_US = 200
T = TypeVar("T")
U = TypeVar("U")


def run() -> Measures:
    """Each size in turn."""
    measures: dict[str, Measure] = {}
    for size in SIZES:
        batches = [encode(results(1 + number * size, size)) for number in range(BATCHES)]
        plain = sum(map(len, batches))
        packed, pack_s = timed(lambda batch: pack(batch) or batch, batches)
        _, unpack_s = timed(lambda batch: unpack(batch, 1 << 20), packed)
        rows = size * BATCHES
        measures[f"bytes_{size}"] = Measure(sum(map(len, packed)) / rows, "B", plain / rows, "<= 0.8")
        measures[f"pack_us_{size}"] = Measure(pack_s / size * 1e6, "us", 0.0)
        measures[f"unpack_us_{size}"] = Measure(unpack_s / size * 1e6, "us", 0.0)
    return measures


def timed(work: Callable[[T], U], items: Sequence[T]) -> tuple[list[U], float]:
    """What comes of each item, and the median of the seconds that one took."""
    done, seconds = [], []
    for item in items:
        began = time.perf_counter()
        done.append(work(item))
        seconds.append(time.perf_counter() - began)
    return done, statistics.median(seconds)


def results(first: int, count: int) -> Results:
    """Results of a sensor and an int8 model."""
    chance = np.random.default_rng(first)
    frame = np.arange(first, first + count, dtype=np.uint64)
    unsure = np.minimum(chance.exponential(0.02, count), 0.9)
    return Results(
        model="digits",
        version=1,
        manifest=b"m" * 32,
        source="camera",
        frame=frame,
        captured_us=1_750_000_000_000_000 + frame.astype(np.int64) * 10_000 + chance.integers(0, JITTER_US, count),
        label=chance.integers(0, 10, count).astype(np.uint16),
        confidence=(np.round((1 - unsure) * 256) / 256).astype(np.float32),
        latency_us=(80 + chance.exponential(20, count)).astype(np.uint32),
    )
