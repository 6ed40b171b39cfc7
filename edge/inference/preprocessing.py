"""From raw frames to a model's input tensor, exactly the same in the cloud and on every device.

A pixel has 256 values, so a quantised input is a table of 256 entries; the usual one (scale 1/255, zero point -128) is
the pixel with its highest bit flipped, which is 30 times faster than a look-up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from protos.v1.manifest_pb2 import Preprocessing, TensorSpec

Frames = NDArray[np.uint8]
Prepare = Callable[[Frames], NDArray[np.generic]]

ALL_PIXELS: Frames = np.arange(256, dtype=np.uint8)
_HIGHEST_BIT = np.uint8(0x80)


def preparation(preprocessing: Preprocessing, spec: TensorSpec) -> Prepare:
    """The function that turns uint8 frames (n, ...) into input values of the same shape in the dtype of `spec`.

    Raises ValueError for a dtype that no model of ours has.
    """
    if spec.dtype == "float32":
        return lambda frames: scaled(frames, preprocessing)
    if spec.dtype not in ("int8", "uint8"):
        raise ValueError(f"input dtype {spec.dtype!r} is not supported: use float32, int8 or uint8")
    table = quantised(ALL_PIXELS, preprocessing, spec)
    if np.array_equal(table, flipped(ALL_PIXELS)) and spec.dtype == "int8":
        return flipped
    return lambda frames: table[frames]


def scaled(frames: Frames, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """x = pixel * scale + offset, in float32."""
    values = np.multiply(frames, np.float32(preprocessing.scale), dtype=np.float32)
    if preprocessing.offset:
        values += np.float32(preprocessing.offset)
    return values


def quantised(frames: Frames, preprocessing: Preprocessing, spec: TensorSpec) -> NDArray[np.generic]:
    """The general formula: x / scale + zero point, rounded half to even, held within the range of the dtype."""
    if not spec.scale > 0:
        raise ValueError(f"a quantised input needs a scale above 0, not {spec.scale}")
    limits = np.iinfo(spec.dtype)
    real = frames.astype(np.float64) * preprocessing.scale + preprocessing.offset
    steps = np.rint(real / spec.scale) + spec.zero_point
    values: NDArray[np.generic] = np.clip(steps, limits.min, limits.max).astype(spec.dtype)
    return values


def flipped(frames: Frames) -> NDArray[np.int8]:
    """pixel - 128 as int8: the same bits but the highest."""
    return np.bitwise_xor(frames, _HIGHEST_BIT).view(np.int8)
