"""Preprocessing: the fast path is the formula, and every value is held within its dtype."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.preprocessing import ALL_PIXELS, flipped, preparation, quantised, scaled
from protos.v1.manifest_pb2 import Preprocessing, TensorSpec

UNIT = Preprocessing(frame_shape=(28, 28), scale=1 / 255)
USUAL = TensorSpec(shape=(28, 28, 1), dtype="int8", scale=1 / 255, zero_point=-128)


def test_flipping_the_highest_bit_equals_the_general_formula_on_all_256_pixels() -> None:
    assert np.array_equal(flipped(ALL_PIXELS), quantised(ALL_PIXELS, UNIT, USUAL))
    assert np.array_equal(flipped(ALL_PIXELS), ALL_PIXELS.astype(np.int64) - 128)


def test_the_usual_quantisation_takes_the_fast_path() -> None:
    assert preparation(UNIT, USUAL) is flipped


@given(
    dtype=st.sampled_from(["int8", "uint8"]),
    step=st.floats(1e-4, 1.0),
    zero_point=st.integers(-128, 255),
    scale=st.floats(1e-4, 1.0),
    offset=st.floats(-10, 10),
)
def test_every_quantised_input_is_the_formula_whatever_path_it_takes(
    dtype: str, step: float, zero_point: int, scale: float, offset: float
) -> None:
    preprocessing = Preprocessing(frame_shape=(2, 128), scale=scale, offset=offset)
    spec = TensorSpec(dtype=dtype, scale=step, zero_point=zero_point)
    frames = ALL_PIXELS.reshape(1, 2, 128)
    found = preparation(preprocessing, spec)(frames)
    limits = np.iinfo(dtype)
    real = frames * np.float64(preprocessing.scale) + np.float64(preprocessing.offset)
    wanted = np.clip(np.rint(real / np.float64(spec.scale)) + zero_point, limits.min, limits.max)
    assert found.dtype == dtype
    assert np.array_equal(found, wanted)


@given(st.binary(min_size=1, max_size=64))
def test_the_fast_path_equals_the_table_on_any_frames(pixels: bytes) -> None:
    frames = np.frombuffer(pixels, np.uint8).reshape(1, -1)
    assert np.array_equal(preparation(UNIT, USUAL)(frames), quantised(ALL_PIXELS, UNIT, USUAL)[frames])


def test_a_float_input_is_scaled_and_shifted_in_float32() -> None:
    preprocessing = Preprocessing(frame_shape=(256,), scale=1 / 127.5, offset=-1)
    values = scaled(ALL_PIXELS, preprocessing)
    assert values.dtype == np.float32
    assert values[0] == -1
    assert values[255] == pytest.approx(1)


def test_preprocessing_leaves_the_frames_untouched() -> None:
    frames = ALL_PIXELS.copy()
    preparation(UNIT, USUAL)(frames)
    preparation(UNIT, TensorSpec(dtype="float32"))(frames)
    assert np.array_equal(frames, ALL_PIXELS)


@pytest.mark.parametrize("spec", [TensorSpec(dtype="int16", scale=1), TensorSpec(dtype="int8", scale=0)])
def test_an_input_that_no_formula_fits_is_refused(spec: TensorSpec) -> None:
    with pytest.raises(ValueError, match=r"int16|scale"):
        preparation(UNIT, spec)
