"""Files and messages with frames in them."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.pictures import Unreadable, frames

PIXELS = np.arange(12, dtype=np.uint8)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def forged(header: str) -> bytes:
    """An .npy file with this header, and nothing behind it."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    "data",
    [
        PIXELS.tobytes(),
        npy(PIXELS.reshape(3, 2, 2)),
        npy(np.asfortranarray(PIXELS.reshape(3, 2, 2))),
        b"P5\n4 3\n255\n" + PIXELS.tobytes(),
        b"P5\n# from a camera\n4 3\n255\n" + PIXELS.tobytes(),
        b"P6 2 2 255 " + PIXELS.tobytes(),
    ],
)
def test_raw_pixels_arrays_and_pictures_are_frames(data: bytes) -> None:
    assert frames(data, 4).tolist() == PIXELS.reshape(3, 4).tolist()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "0 bytes"),
        (PIXELS.tobytes()[:-1], "11 bytes"),
        (npy(PIXELS)[:-3], "not a whole .npy"),
        (npy(PIXELS.astype(np.float32)), "float32"),
        (npy(np.array([{}])), "not a whole .npy"),
        (forged("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000,)}"), "not a whole .npy"),
        (forged("{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000000000000,)}"), "not a whole .npy"),
        (forged("{'descr': ('|u1', 'fortran_order': False"), "not a whole .npy"),
        (forged("(" * 5000), "not a whole .npy"),
        (b"P5\n4 4\n255\n" + PIXELS.tobytes(), "4 x 4"),
    ],
)
def test_what_is_no_frames_for_the_model_is_refused_with_a_reason(data: bytes, named: str) -> None:
    with pytest.raises(Unreadable, match=named):
        frames(data, 4)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"P5 ", b"P6 1 1 255 "]))
def test_whatever_the_bytes_are_they_are_whole_frames_or_refused(data: bytes, beginning: bytes) -> None:
    try:
        found = frames(beginning + data, 4)
    except Unreadable:
        return
    assert found.shape[1] == 4
    assert len(found) >= 1


def test_windows_of_sensor_values_are_arrays_of_their_type_or_their_bytes() -> None:
    values = np.arange(6, dtype="<f4").reshape(3, 2)
    for data in (npy(values), npy(values.astype(">f4")), values.tobytes()):
        assert frames(data, 8, "<f4").view("<f4").tolist() == values.tolist()


@pytest.mark.parametrize("data", [b"P5 2 2 255 1234", npy(np.zeros(4)), npy(np.zeros(4, np.uint8))])
def test_values_of_another_type_are_no_windows(data: bytes) -> None:
    with pytest.raises(Unreadable, match="float32"):
        frames(data, 4, "<f4")
