"""Which frames a challenger answers, too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.entities import FrameRun, MicroBatch
from edge.shadow import rules
from edge.shadow.service import part_of

counts = st.integers(1, 4096)
shares = st.floats(0.001, 1)


@given(st.floats(0, 64), counts, shares, st.integers(0, 64), st.integers(0, 10**9))
def test_what_is_chosen_lies_within_the_micro_batch_and_the_bound(
    credit: float, count: int, share: float, most: int, turn: int
) -> None:
    chosen = rules.choose(credit, count, share, most, turn)
    assert 0 <= chosen.start <= chosen.stop <= count
    assert chosen.stop - chosen.start <= min(most, credit + share * count + 1e-6)
    assert 0 <= chosen.credit <= most


@given(st.lists(st.integers(1, 60), min_size=1, max_size=200), shares)
def test_a_challenger_that_keeps_up_gets_its_share(batches: list[int], share: float) -> None:
    credit, taken = 0.0, 0
    for turn, count in enumerate(batches):
        chosen = rules.choose(credit, count, share, rules.MOST_FRAMES, turn)
        credit, taken = chosen.credit, taken + chosen.stop - chosen.start
    assert abs(taken - share * sum(batches)) <= 1


@given(st.lists(counts, min_size=1, max_size=100), shares)
def test_one_that_is_busy_for_long_owes_no_more_than_it_can_pay_at_once(batches: list[int], share: float) -> None:
    credit = 5.0
    for count in batches:
        credit = rules.choose(credit, count, share, 0, 0).credit
    chosen = rules.choose(credit, 4096, share, rules.MOST_FRAMES, 0)
    assert chosen.stop - chosen.start <= rules.MOST_FRAMES


def test_the_place_in_the_micro_batch_moves() -> None:
    places = {rules.choose(0, 20, 0.1, 64, turn).start for turn in range(100)}
    assert places == set(range(19))


@pytest.mark.parametrize(
    ("champion", "fits", "says"),
    [(b"a", True, ""), (b"b", True, "serves as the champion"), (b"a", False, "another size")],
)
def test_a_challenger_ends_when_there_is_nothing_to_compare(champion: bytes, fits: bool, says: str) -> None:  # noqa: FBT001
    reason = rules.must_end(champion, b"b", fits=fits)
    assert says in reason if says else reason == ""


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
def test_a_part_of_a_micro_batch_has_its_frames_in_order(lengths: list[int], data: st.DataObject) -> None:
    total, runs, first = sum(lengths), [], 1
    for length in lengths:
        numbers = np.arange(first, first + length)
        runs.append(FrameRun(first, numbers.astype(np.uint8)[:, None], numbers, 0))
        first += length + 5  # a gap
    start = data.draw(st.integers(0, total - 1))
    stop = data.draw(st.integers(start + 1, total))
    part = part_of(MicroBatch("cam", tuple(runs)), start, stop)
    whole = np.concatenate([run.captured_us for run in runs])
    assert np.concatenate([run.captured_us for run in part.runs]).tolist() == whole[start:stop].tolist()
    assert part.last_frame == whole[stop - 1]
