"""What two models' columns come to as counts, and that counting goes on after a restart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.shadow.comparison import MOST_PAIRS, PAIRS_TOLD, Tally
from protos.kit import sketches
from protos.kit.columns import Results
from protos.v1.sketches_pb2 import Comparison
from protos.v1.uplink_pb2 import UplinkMessage

labels = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=50)


def results(found: list[int], confidence: float = 0.5) -> Results:
    n = len(found)
    numbers = np.arange(1, n + 1)
    return Results(
        "m", 1, bytes(32), "cam", numbers.astype(np.uint64), numbers, np.array(found, np.uint16),
        np.full(n, confidence, np.float32), np.zeros(n, np.uint32),
    )  # fmt: skip


def counted(tally: Tally, pairs: list[tuple[int, int]]) -> np.ndarray:
    return tally.add(results([a for a, _ in pairs], 0.5), results([b for _, b in pairs], 0.75), 100.0, 50.0)


def pairs_of(told: Comparison) -> dict[tuple[int, int], int]:
    keys = zip(told.champion_label, told.challenger_label, strict=True)
    return dict(zip(keys, told.pair_frames, strict=True))


def test_agreement_confidence_and_cost_are_counted() -> None:
    tally = Tally(Comparison())
    tally.offer(10)
    disagree = counted(tally, [(1, 1), (1, 2), (3, 3), (1, 2)])
    told = tally.message(7)
    assert disagree.tolist() == [False, True, False, True]
    assert (told.offered, told.compared, told.agreed, told.measured_ms) == (10, 4, 2, 7)
    assert pairs_of(told) == {(1, 2): 2, (1, 1): 1, (3, 3): 1}
    assert (told.champion_confidence, told.challenger_confidence) == (2.0, 3.0)
    assert [place for place, frames in enumerate(told.confidence_change) if frames] == [13]  # a quarter more
    assert sketches.cost_quantile(told.champion_cost, 0.5) == pytest.approx(100, rel=0.2)
    assert sketches.cost_quantile(told.challenger_cost, 0.95) == pytest.approx(50, rel=0.2)


@given(labels, labels)
def test_counting_goes_on_from_what_was_told(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    whole, before = Tally(Comparison()), Tally(Comparison())
    counted(before, first)
    after = Tally(Comparison.FromString(before.message(1).SerializeToString()))
    counted(after, second)
    counted(whole, first)
    counted(whole, second)
    assert pairs_of(after.message(2)) == pairs_of(whole.message(2))
    assert after.message(2).agreed == whole.message(2).agreed
    assert list(after.message(2).champion_cost) == list(whole.message(2).champion_cost)


@given(labels)
def test_pairs_of_labels_add_up_to_what_was_compared(pairs: list[tuple[int, int]]) -> None:
    tally = Tally(Comparison())
    counted(tally, pairs)
    told = tally.message(1)
    assert sum(told.pair_frames) == told.compared == sum(told.confidence_change) == len(pairs)
    assert sum(frames for (a, b), frames in pairs_of(told).items() if a == b) == told.agreed


def test_thousands_of_classes_stay_within_the_message() -> None:
    random = np.random.default_rng(1)
    tally = Tally(Comparison(champion=bytes(32), challenger=bytes(32), ended="e" * 1000))
    for _ in range(30):
        counted(tally, [tuple(pair) for pair in random.integers(0, 2**16, (1000, 2)).tolist()])
    told = tally.message(1)
    assert (told.compared, len(told.pair_frames)) == (30_000, PAIRS_TOLD)
    assert len(tally._pairs) == MOST_PAIRS
    assert UplinkMessage(comparison=told).ByteSize() < sketches.MAX_BYTES
