"""Files and messages with frames in them: raw pixels, NumPy's .npy, or a PGM or PPM picture."""

from __future__ import annotations

import io
import re

import numpy as np
from numpy.typing import DTypeLike, NDArray

_PNM = re.compile(rb"P([56])\s(?:#[^\n]*\s)*(\d{1,6})\s+(\d{1,6})\s+255\s")
_NPY = b"\x93NUMPY"
_CHANNELS = {b"5": 1, b"6": 3}


class Unreadable(ValueError):
    """These bytes are no frames for this model; the message says why."""


def frames(data: bytes, frame_bytes: int, dtype: DTypeLike = np.uint8) -> NDArray[np.uint8]:
    """The frames in `data`, uint8 (n, frame_bytes), n from 1 up. dtype: of their values. Raises Unreadable."""
    pixels = _pixels(data, np.dtype(dtype))
    if not len(pixels) or len(pixels) % frame_bytes:
        raise Unreadable(f"{len(pixels)} bytes of pixels are not whole frames of {frame_bytes} bytes")
    return pixels.reshape(-1, frame_bytes)


def _pixels(data: bytes, dtype: np.dtype[np.generic]) -> NDArray[np.uint8]:
    if data.startswith(_NPY):
        return _of_array(data, dtype)
    if header := _PNM.match(data):
        channels, width, height = _CHANNELS[header[1]], int(header[2]), int(header[3])
        wanted = width * height * channels
        if dtype != np.uint8:
            raise Unreadable(f"a picture, but the model takes frames of {dtype.name}")
        if len(data) - header.end() != wanted:
            raise Unreadable(f"a picture of {width} x {height} has {wanted} bytes, not {len(data) - header.end()}")
        return np.frombuffer(data, np.uint8, offset=header.end())
    return np.frombuffer(data, np.uint8)


def _of_array(data: bytes, dtype: np.dtype[np.generic]) -> NDArray[np.uint8]:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    # Whatever numpy makes of a forged header: sizes beyond memory, brackets that never close.
    except Exception as error:
        raise Unreadable(f"not a whole .npy file: {error}") from error
    if array.dtype.newbyteorder("=") != dtype.newbyteorder("="):
        raise Unreadable(f"an array of {array.dtype}: frames are {dtype.name}")
    return np.ascontiguousarray(array, dtype).ravel().view(np.uint8)
