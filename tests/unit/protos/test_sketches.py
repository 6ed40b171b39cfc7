"""Sketches: what enters which bin, and which sketches are not believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.kit import sketches
from protos.kit.sketches import COST_BINS, MAX_BYTES, MOST_CHANNELS, MOST_LABELS, BadSketch, Tally
from protos.v1.sketches_pb2 import Drift, Sketch


def tally(labels: list[int], classes: int = 4) -> Tally:
    made = Tally(classes, 1)
    made.add(np.array(labels, np.uint16), np.full(len(labels), 0.97, np.float32))
    return made


def test_answers_are_counted_by_label_and_by_confidence() -> None:
    made = Tally(3, 1)
    made.add(np.array([0, 2, 2], np.uint16), np.array([0.05, 0.97, 1.0], np.float32))
    found = made.sketch()
    assert (found.frames, list(found.labels)) == (3, [1, 0, 2])
    assert [place for place, count in enumerate(found.confidences) if count] == [0, 10, 15]


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=50))
def test_labels_beyond_the_last_class_share_its_place(labels: list[int]) -> None:
    assert sum(tally(labels).sketch().labels) == len(labels)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50))
def test_every_confidence_has_a_bin(confidences: list[float]) -> None:
    assert sketches.confidence_counts(np.array(confidences, np.float32)).sum() == len(confidences)


def test_pixels_are_summed_up_by_channel() -> None:
    made = Tally(1, 3)
    made.look(np.array([[10, 20, 30, 30, 20, 10]], np.uint8))
    red, green, blue = made.sketch().channels
    assert (red.means, red.min, red.max, red.squares) == (20, 10, 30, 500)
    assert (green.means, green.min, green.max) == (20, 20, 20)
    assert (blue.means, blue.mean_squares) == (20, 400)


@pytest.mark.parametrize(("shape", "channels"), [((28, 28), 1), ((28, 28, 1), 1), ((96, 96, 3), 3), ((5, 5, 99), 16)])
def test_the_last_of_three_sizes_of_a_frame_is_its_channels(shape: tuple[int, ...], channels: int) -> None:
    assert sketches.channels_of(shape) == channels


def test_the_largest_sketch_fits_into_its_message() -> None:
    made = Tally(70_000, MOST_CHANNELS)
    for _ in range(20):
        made.add(np.arange(2**16, dtype=np.uint16), np.full(2**16, 0.5, np.float32))
    made.look(np.full((2, 64 * MOST_CHANNELS), 200, np.uint8))
    assert Drift(sketch=made.sketch(), alarm="a" * 500).ByteSize() < MAX_BYTES


SPOILT = {
    "more frames than labels": {"frames": 3},
    "a bin too many": {"confidences": [0] * 17},
    "too many classes": {"labels": [0] * (MOST_LABELS + 1)},
}


@pytest.mark.parametrize("change", SPOILT.values(), ids=SPOILT)
def test_a_sketch_that_contradicts_itself_is_not_believed(change: dict[str, object]) -> None:
    good = tally([1, 1]).sketch()
    sketches.check(good)
    fields = {"frames": good.frames, "labels": good.labels, "confidences": good.confidences}
    with pytest.raises(BadSketch):
        sketches.check(Sketch(**fields | change))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_sums_that_are_no_numbers_are_not_believed(value: float) -> None:
    spoilt = tally([1]).sketch()
    spoilt.channels.add(means=value)
    with pytest.raises(BadSketch):
        sketches.check(spoilt)


@given(st.floats(0, 1e12))
def test_every_cost_has_a_bin_and_a_dearer_one_no_lower(cost_us: float) -> None:
    assert 0 <= sketches.cost_bin(cost_us) <= sketches.cost_bin(cost_us * 2) < COST_BINS


@given(st.floats(1, 1e7))
def test_a_quantile_is_within_a_fifth_of_the_cost(cost_us: float) -> None:
    counts = [0] * COST_BINS
    counts[sketches.cost_bin(cost_us)] = 10
    assert sketches.cost_quantile(counts, 0.5) == pytest.approx(cost_us, rel=0.2)


def test_of_no_frames_there_is_no_quantile() -> None:
    assert sketches.cost_quantile([], 0.5) == sketches.cost_quantile([0, 0], 0.95) == 0
