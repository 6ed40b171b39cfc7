"""Golden vectors: what passes, what does not, and the digest of what came out."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge.inference.golden import check_golden, expected, golden_frames, outputs_digest
from protos.v1.manifest_pb2 import GoldenVector

OUTPUTS = np.array([[-128, 120, -120], [100, -100, -128]], np.int8)


def vectors(outputs: np.ndarray = OUTPUTS, tolerance: float = 3) -> list[GoldenVector]:
    return [
        GoldenVector(frame=bytes([place] * 4), expected=[expected("int8", output, tolerance)])
        for place, output in enumerate(outputs)
    ]


@given(arrays.arrays(np.int8, (2, 3), elements=st.integers(-3, 3)))
def test_outputs_within_the_tolerance_pass(difference: np.ndarray) -> None:
    outputs = np.clip(OUTPUTS.astype(int) + difference, -128, 127).astype(np.int8)
    assert check_golden(vectors(), "int8", outputs) == []


def test_an_element_beyond_the_tolerance_is_named_with_its_vector() -> None:
    outputs = OUTPUTS.copy()
    outputs[1, 1] += 4
    assert check_golden(vectors(), "int8", outputs) == ["golden vector 1: differs by 4, 3 is allowed"]


def test_the_differences_of_int8_do_not_wrap_around() -> None:
    outputs = OUTPUTS.copy()
    outputs[0, 0] = 119
    assert "differs by 247" in check_golden(vectors(), "int8", outputs)[0]


def test_another_class_fails_even_within_the_tolerance() -> None:
    close = np.array([[10, 11, 0]], np.int8)
    assert check_golden(vectors(close), "int8", np.array([[11, 10, 0]], np.int8)) == [
        "golden vector 0: class 0 instead of 1"
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_numbers_fail(value: float) -> None:
    good = np.array([[0.1, 0.9]], np.float32)
    made = [GoldenVector(expected=[expected("float32", good[0], 1e-3)])]
    assert check_golden(made, "float32", good) == []
    bad = good.copy()
    bad[0, 0] = value
    assert "not numbers" in check_golden(made, "float32", bad)[0]


def test_nothing_expected_proves_nothing() -> None:
    assert check_golden([], "int8", OUTPUTS[:0]) != []
    assert len(check_golden(vectors(), "float32", OUTPUTS)) == 2
    assert check_golden(vectors(), "int8", OUTPUTS[:1]) != []
    assert "bytes" in check_golden(vectors(), "int8", OUTPUTS[:, :2])[0]


def test_the_digest_is_over_all_outputs_in_their_order() -> None:
    assert outputs_digest(OUTPUTS) == hashlib.sha256(OUTPUTS.tobytes()).digest()
    assert outputs_digest(OUTPUTS) != outputs_digest(OUTPUTS[::-1])
    big_endian = np.array([[1.5]], ">f4")
    assert outputs_digest(big_endian) == outputs_digest(big_endian.astype("<f4"))


def test_frames_come_back_in_their_shape_and_others_are_refused() -> None:
    frames = golden_frames(vectors(), (2, 2))
    assert frames.shape == (2, 2, 2)
    assert frames[1].tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match="reshape"):
        golden_frames(vectors(), (3, 3))
