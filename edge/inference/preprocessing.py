"""From raw frames to a model's input tensor, exactly the same in the cloud and on every device.

A pixel has 256 values, so a quantised input is a table of 256 entries; the usual one (scale 1/255, zero point -128) is
the pixel with its highest bit flipped, which is 30 times faster than a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.inference import picture_steps, shapes
from protos.v1.manifest_pb2 import Preprocessing, TensorSpec

Frames = NDArray[np.generic]
Pixels = NDArray[np.uint8]
Prepare = Callable[[Frames], NDArray[np.generic]]

ALL_PIXELS: Pixels = np.arange(256, dtype=np.uint8)
_HIGHEST_BIT = np.uint8(0x80)


def preparation(preprocessing: Preprocessing, spec: TensorSpec) -> Prepare:
    """The function that turns frames (n, *frame_shape) into input values (n, *prepared_shape) in the dtype of `spec`.

    Raises ValueError for a dtype that no model of ours has, and for steps that cannot be done on such frames.
    """
    steps, shape = picture_steps.steps(preprocessing)
    normalise = _normalisation(preprocessing, spec, shape)
    if not steps:
        return normalise
    return lambda frames: normalise(picture_steps.in_turn(steps, frames))


def prepared_shape(preprocessing: Preprocessing) -> tuple[int, ...]:
    """Of one frame once it is prepared."""
    return picture_steps.steps(preprocessing)[1]


def _normalisation(preprocessing: Preprocessing, spec: TensorSpec, shape: Sequence[int]) -> Prepare:
    _check_channels(preprocessing, shape[-1])
    if spec.dtype == "float32":
        return lambda frames: scaled(frames, preprocessing)
    if spec.dtype not in ("int8", "uint8"):
        raise ValueError(f"input dtype {spec.dtype!r} is not supported: use float32, int8 or uint8")
    if shapes.frame_dtype(preprocessing) != np.uint8:
        _check_step(spec)
        return lambda frames: quantised(frames, preprocessing, spec)
    channels = max(len(preprocessing.mean), len(preprocessing.deviation))
    if channels > 1:
        tables = quantised(np.repeat(ALL_PIXELS[:, None], channels, axis=1), preprocessing, spec)
        return lambda frames: tables[frames, np.arange(channels)]
    table = quantised(ALL_PIXELS, preprocessing, spec)
    if spec.dtype == "int8" and np.array_equal(table, flipped(ALL_PIXELS)):
        return flipped
    return lambda frames: table[frames]


def scaled(frames: Frames, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """x = (value * scale + offset - mean) / deviation, each step in float32; the channel is the last axis."""
    values = np.multiply(frames, np.float32(preprocessing.scale), dtype=np.float32)
    if preprocessing.offset:
        values += np.float32(preprocessing.offset)
    if preprocessing.mean:
        values -= np.array(preprocessing.mean, np.float32)
    if preprocessing.deviation:
        values /= np.array(preprocessing.deviation, np.float32)
    return values


def quantised(frames: Frames, preprocessing: Preprocessing, spec: TensorSpec) -> NDArray[np.generic]:
    """The general formula: x / scale + zero point, rounded half to even, held within the range of the dtype."""
    _check_step(spec)
    limits = np.iinfo(spec.dtype)
    real = frames.astype(np.float64) * preprocessing.scale + preprocessing.offset
    if preprocessing.mean:
        real -= np.array(preprocessing.mean)
    if preprocessing.deviation:
        real /= np.array(preprocessing.deviation)
    steps = np.rint(real / spec.scale) + spec.zero_point
    values: NDArray[np.generic] = np.clip(steps, limits.min, limits.max).astype(spec.dtype)
    return values


def flipped(frames: Frames) -> NDArray[np.int8]:
    """pixel - 128 as int8: the same bits but the highest."""
    return np.bitwise_xor(frames, _HIGHEST_BIT).view(np.int8)


def _check_step(spec: TensorSpec) -> None:
    if not spec.scale > 0:
        raise ValueError(f"a quantised input needs a scale above 0, not {spec.scale}")


def _check_channels(preprocessing: Preprocessing, channels: int) -> None:
    for name, values in (("mean", preprocessing.mean), ("deviation", preprocessing.deviation)):
        if len(values) not in (0, 1, channels):
            raise ValueError(f"{name} has {len(values)} values for {channels} channels: give one for each, or one")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has values that are not numbers")
    if not all(value > 0 for value in preprocessing.deviation):
        raise ValueError("deviation has values that are not above 0")
