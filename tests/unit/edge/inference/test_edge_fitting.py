"""Pictures of any size and proportion become a model's frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.entities import Blueprint
from edge.inference.fitting import fitting, picture_shape
from edge.inference.picture_steps import resizing
from protos.v1.manifest_pb2 import Preprocessing, Variant

sides = st.tuples(st.integers(1, 40), st.integers(1, 40))


def blueprint(preprocessing: Preprocessing) -> Blueprint:
    return Blueprint(Path("none"), Variant(), preprocessing, 1, b"", "m", 1)


@given(sides, sides, st.sampled_from([(), (1,), (3,)]))
def test_every_picture_fits_every_frame(given: tuple[int, int], wanted: tuple[int, int], rest: tuple[int, ...]) -> None:
    frames = fitting((*given, 3), (*wanted, *rest))(np.full((2, *given, 3), 99, np.uint8))
    assert frames.shape == (2, *wanted, *rest)
    assert (frames == 99).all()


def test_a_picture_of_the_frames_size_stays_as_it_is() -> None:
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(1, 5, 7, 3)
    assert np.array_equal(fitting((5, 7, 3), (5, 7, 3))(picture), picture)


@pytest.mark.parametrize(("given", "cut"), [((20, 40), np.s_[:, :, 10:30]), ((40, 20), np.s_[:, 10:30])])
def test_the_centre_is_taken_and_nothing_is_stretched(given: tuple[int, int], cut: tuple[slice, ...]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (1, *given, 3), np.uint8)
    wanted = resizing((20, 20, 3), (10, 10, 3))(picture[cut])
    assert np.array_equal(fitting((*given, 3), (10, 10, 3))(picture), wanted)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(frame_shape=(64,)),
        Preprocessing(frame_shape=(8, 8), dtype="float32"),
        Preprocessing(frame_shape=(8, 8, 2)),
    ],
)
def test_a_model_without_pictures_is_named(preprocessing: Preprocessing) -> None:
    with pytest.raises(ValueError, match="takes no pictures"):
        picture_shape(blueprint(preprocessing))
