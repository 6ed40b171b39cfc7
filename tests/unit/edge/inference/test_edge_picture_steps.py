"""Colour, resize and crop: by what rule, in which order, and the same on every processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.picture_steps import ONE, Filter, in_turn, resizing, steps
from edge.inference.preprocessing import preparation, prepared_shape, quantised, scaled
from protos.v1.manifest_pb2 import COLOUR_BGR, COLOUR_GREY, COLOUR_RGB, Colour, Preprocessing, Size, TensorSpec
from tests import prepared_digests
from tests.prepared_digests import CASES, frames

ROOT = Path(__file__).resolve().parents[4]
RECORDED = ROOT / "tests" / "contract" / "preprocessing.json"

PROCESSORS = {
    "this one": {},
    "one without wide registers": {
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512F AVX2 FMA3",
    },
}
"""By what numpy and its matrix library are told to find."""

picture = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([(), (1,), (3,)]))


@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_processor_prepares_the_recorded_frames_to_the_same_bits(processor: str) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "tests.prepared_digests"],
        cwd=ROOT,
        env=os.environ | PROCESSORS[processor],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert json.loads(child.stdout) == json.loads(RECORDED.read_text())


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 39))
def test_the_weights_of_a_pixel_are_the_triangle_and_one_together(old: int, new: int, chosen: int) -> None:
    made = Filter(old, new)
    assert (made.shares.sum(axis=1) == ONE).all()
    assert (made.shares >= 0).all()
    assert made.sources.min() >= 0
    assert made.sources.max() < old
    place, width = chosen % new, max(Fraction(old, new), Fraction(1))
    centre = Fraction(2 * place + 1, 2) * Fraction(old, new) - Fraction(1, 2)
    reach = np.array([max(0.0, float(1 - abs(source - centre) / width)) for source in range(old)])
    found = np.zeros(old)
    found[made.sources[place]] = made.shares[place]
    assert np.abs(found - reach / reach.sum() * ONE).max() <= len(made.sources[place])


@given(picture, picture, st.integers(0, 255))
def test_a_picture_of_one_colour_keeps_it_at_any_size(
    old: tuple[int, int, tuple[int, ...]], new: tuple[int, int, tuple[int, ...]], value: int
) -> None:
    before = np.full((2, *old[:2], *old[2]), value, np.uint8)
    after = resizing(before.shape[1:], (*new[:2], *old[2]))(before)
    assert after.shape == (2, *new[:2], *old[2])
    assert (after == value).all()


def test_pictures_grow_as_by_opencv() -> None:
    before = frames(Preprocessing(frame_shape=(24, 31, 3)), 1)
    wanted = cv2.resize(before[0], (70, 55), interpolation=cv2.INTER_LINEAR)
    found = resizing((24, 31, 3), (55, 70, 3))(before)[0]
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


def test_no_pixel_is_passed_over_where_a_picture_shrinks() -> None:
    before = np.zeros((1, 64, 64), np.uint8)
    before[0, 33, 17] = 255
    assert resizing((64, 64), (16, 16))(before).sum() > 0


def test_red_green_and_blue_weigh_in_grey_as_the_eye_sees_them() -> None:
    colours = np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 10, 10]]]], np.uint8)
    wanted, shape = steps(Preprocessing(frame_shape=(1, 5, 3), colour=COLOUR_GREY))
    assert shape == (1, 5)
    assert in_turn(wanted, colours).tolist() == [[[76, 150, 29, 255, 10]]]
    assert in_turn(wanted, colours).tolist() == cv2.cvtColor(colours[0], cv2.COLOR_RGB2GRAY)[None].tolist()


@pytest.mark.parametrize(
    ("shape", "colour", "pixels", "wanted"),
    [
        ((1, 1, 3), COLOUR_BGR, [1, 2, 3], [3, 2, 1]),
        ((1, 1, 3), COLOUR_RGB, [1, 2, 3], [1, 2, 3]),
        ((1, 1), COLOUR_RGB, [7], [7, 7, 7]),
        ((1, 1, 1), COLOUR_BGR, [7], [7, 7, 7]),
        ((1, 1), COLOUR_GREY, [7], [7]),
    ],
)
def test_channels_are_turned_added_or_left(
    shape: tuple[int, ...], colour: Colour, pixels: list[int], wanted: list[int]
) -> None:
    todo, after = steps(Preprocessing(frame_shape=shape, colour=colour))
    found = in_turn(todo, np.array(pixels, np.uint8).reshape(1, *shape))
    assert found.ravel().tolist() == wanted
    assert found.shape == (1, *after)


def test_the_centre_is_what_is_left_of_a_crop() -> None:
    todo, shape = steps(Preprocessing(frame_shape=(4, 6), crop=Size(height=2, width=2)))
    found = in_turn(todo, np.arange(24, dtype=np.uint8).reshape(1, 4, 6))
    assert shape == (2, 2)
    assert found.tolist() == [[[8, 9], [14, 15]]]


def test_first_colour_then_size_then_crop_then_normalisation() -> None:
    steps_of_all, spec = CASES["as ImageNet, quantised, BGR"]
    before = frames(steps_of_all)
    small = resizing((60, 80, 3), (36, 48, 3))(np.ascontiguousarray(before[..., ::-1]))
    wanted = quantised(small[:, 2:34, 8:40], steps_of_all, spec)
    assert np.array_equal(preparation(steps_of_all, spec)(before), wanted)
    assert prepared_shape(steps_of_all) == (32, 32, 3)


def test_many_frames_at_once_become_what_each_becomes_alone() -> None:
    preprocessing = Preprocessing(frame_shape=(200, 300, 3), scale=1, resize=Size(height=20, width=30))
    prepare = preparation(preprocessing, TensorSpec(dtype="uint8", scale=1))
    many = frames(preprocessing, 9)
    assert np.array_equal(prepare(many), np.concatenate([prepare(many[place : place + 1]) for place in range(9)]))


def test_each_channel_is_normalised_by_its_own_mean_and_deviation() -> None:
    preprocessing = Preprocessing(frame_shape=(1, 1, 2), scale=1, mean=(10, 20), deviation=(2, 5))
    pixels = np.array([14, 30], np.uint8).reshape(1, 1, 1, 2)
    assert scaled(pixels, preprocessing).ravel().tolist() == [2, 2]
    spec = TensorSpec(dtype="int8", scale=1, zero_point=1)
    assert preparation(preprocessing, spec)(pixels).ravel().tolist() == [3, 3]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (Preprocessing(frame_shape=(2, 2, 4), colour=COLOUR_GREY), "4 channels"),
        (Preprocessing(frame_shape=(2, 2), crop=Size(height=3, width=2)), "3 x 2 pixels cannot be cut out of 2 x 2"),
        (Preprocessing(frame_shape=(2, 2), crop=Size()), "0 x 0"),
        (Preprocessing(frame_shape=(2, 2), resize=Size(height=0, width=1)), "2 pixels cannot become 0"),
        (Preprocessing(frame_shape=(2, 2), dtype="float32", resize=Size(height=1, width=1)), "pictures of uint8"),
        (Preprocessing(frame_shape=(64,), crop=Size(height=1, width=1)), "pictures of uint8"),
        (Preprocessing(frame_shape=(2, 2, 3), mean=(1, 2)), "mean has 2 values for 3 channels"),
        (Preprocessing(frame_shape=(2, 2, 3), deviation=(1, 0, 1)), "not above 0"),
        (Preprocessing(frame_shape=(2, 2, 3), deviation=(1, float("nan"), 1)), "not numbers"),
        (Preprocessing(frame_shape=(2, 2), colour=17), "colour 17"),  # type: ignore[arg-type]
    ],
)
def test_steps_that_cannot_be_done_are_refused_with_the_reason(wrong: Preprocessing, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        preparation(wrong, TensorSpec(dtype="float32"))


def test_the_recorded_cases_are_all_there_are() -> None:
    assert set(json.loads(RECORDED.read_text())) == set(prepared_digests.CASES)
