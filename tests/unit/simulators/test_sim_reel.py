from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.reel import HeldOut, Reel

IMAGES = np.arange(7, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
LABELS = np.arange(7) % 5
REEL = Reel.of("edge-1", HeldOut(IMAGES, LABELS))


@given(first=st.integers(1, 10**9), count=st.integers(1, 50), cut=st.integers(0, 49))
def test_a_frame_shows_the_same_however_the_frames_are_batched(first: int, count: int, cut: int) -> None:
    cut = min(cut, count - 1)
    whole = REEL.frames(first, count)
    assert np.array_equal(whole[cut:], REEL.frames(first + cut, count - cut))
    assert REEL.truth(first, count)[cut:] == REEL.truth(first + cut, count - cut)


@given(first=st.integers(1, 10**9), count=st.integers(1, 50))
def test_the_truth_is_the_label_of_the_picture_shown(first: int, count: int) -> None:
    shown = REEL.frames(first, count)[:, 0, 0]
    assert REEL.truth(first, count) == [int(LABELS[picture]) for picture in shown]


def test_the_reel_shows_every_picture_before_it_repeats_one() -> None:
    assert sorted(REEL.frames(1, 7)[:, 0, 0]) == list(range(7))
    assert np.array_equal(REEL.frames(1, 7), REEL.frames(8, 7))


def test_a_device_has_the_same_reel_in_every_process() -> None:
    assert Reel.of("edge-1", HeldOut(IMAGES, LABELS)).start == REEL.start


@pytest.mark.parametrize(("first", "count"), [(0, 1), (1, 0)])
def test_frames_are_numbered_from_1_and_come_at_least_one_at_a_time(first: int, count: int) -> None:
    with pytest.raises(ValueError, match="numbered from 1"):
        REEL.frames(first, count)


def test_held_out_digits_have_one_label_for_each_picture() -> None:
    with pytest.raises(ValueError, match="one label for each"):
        HeldOut(IMAGES, LABELS[:3])
