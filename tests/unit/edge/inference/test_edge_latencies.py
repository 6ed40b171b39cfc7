from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.entities import FrameRun, MicroBatch
from edge.inference.latencies import KEPT, Latencies
from protos.kit.latency import BOUNDS_US, BUCKETS


def batch(frames: int) -> MicroBatch:
    run = FrameRun(1, np.zeros((frames, 1), np.uint8), np.zeros(frames, np.int64), taken_ns=0)
    return MicroBatch("camera", (run,))


def measured(pairs: list[tuple[int, int]]) -> Latencies:
    """Of runs of (µs, frames)."""
    latencies = Latencies()
    for taken_us, frames in pairs:
        latencies.add(batch(frames), taken_us * 1000)
    return latencies


@given(st.lists(st.tuples(st.integers(0, 20_000_000), st.integers(1, 5)), max_size=40))
def test_each_frame_is_counted_in_the_bucket_of_its_latency(pairs: list[tuple[int, int]]) -> None:
    counts, sum_us = measured(pairs).histogram()
    expected = [0] * BUCKETS
    for taken_us, frames in pairs:
        expected[sum(taken_us > bound for bound in BOUNDS_US)] += frames
    assert list(counts) == expected
    assert sum_us == sum(taken_us * frames for taken_us, frames in pairs)


def test_the_histogram_goes_on_over_intervals_and_the_percentiles_begin_anew() -> None:
    latencies = measured([(100, 1), (300, 3)])
    assert latencies.read() == (300, 300)
    latencies.add(batch(1), 50_000_000)
    assert latencies.read() == (50_000, 50_000)
    assert latencies.read() == (0, 0)
    assert sum(latencies.histogram()[0]) == 5


def test_no_frame_is_missed_where_more_come_than_are_kept_for_percentiles() -> None:
    latencies = measured([(50, 1)] * (3 * KEPT) + [(900, 1)] * KEPT)
    assert sum(latencies.histogram()[0]) == 4 * KEPT
    assert latencies.read()[1] == 900
