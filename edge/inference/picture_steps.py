"""What is done to pictures before their pixels become numbers, colour, resize, crop: everywhere the same to the bit.

Sums of floating-point numbers depend on the order of adding, which processors choose. Here all numbers are whole, and
small enough to be exact: whoever adds them, in whatever order, there is one result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protos.v1.manifest_pb2 import COLOUR_BGR, COLOUR_GREY, COLOUR_RGB, COLOUR_UNSPECIFIED, Preprocessing

Pixels = NDArray[np.uint8]
Step = Callable[[Pixels], Pixels]

GREY_WEIGHTS = (19595, 38470, 7471)
"""Of red, green and blue (Rec. 601), in 65536ths."""

ONE = 2**16
"""A weight of one."""

RGB_CHANNELS = 3
PART_BYTES = 1 << 20
"""Frames are worked on in parts of this size: what is made in between takes several times as much."""


def steps(preprocessing: Preprocessing) -> tuple[list[Step], tuple[int, ...]]:
    """What to do, and the shape of a frame after it. Raises ValueError where it cannot be done."""
    shape = tuple(preprocessing.frame_shape)
    wanted: list[Step] = []
    if preprocessing.colour != COLOUR_UNSPECIFIED:
        step, shape = _colour(_picture(preprocessing), preprocessing.colour)
        wanted += step
    if preprocessing.HasField("resize"):
        _picture(preprocessing)
        old, shape = shape, (preprocessing.resize.height, preprocessing.resize.width, *shape[2:])
        if old != shape:
            wanted.append(resizing(old, shape))
    if preprocessing.HasField("crop"):
        _picture(preprocessing)
        old, shape = shape, (preprocessing.crop.height, preprocessing.crop.width, *shape[2:])
        wanted.append(_cropping(old, shape))
    return wanted, shape


def in_turn(wanted: Sequence[Step], frames: NDArray[Any]) -> Pixels:
    """All steps, on frames (n, ...)."""
    size = max(1, PART_BYTES * len(frames) // max(1, frames.nbytes))
    parts = [frames[start : start + size] for start in range(0, len(frames), size)] or [frames]
    done = [reduce(lambda part, step: step(part), wanted, part) for part in parts]
    return done[0] if len(done) == 1 else np.concatenate(done)


def grey(frames: Pixels) -> Pixels:
    """RGB (..., 3) to grey (...), rounded half up."""
    red, green, blue = (weight * frames[..., place].astype(np.uint32) for place, weight in enumerate(GREY_WEIGHTS))
    return ((red + green + blue + ONE // 2) // ONE).astype(np.uint8)


def resizing(old: Sequence[int], new: Sequence[int]) -> Step:
    """From frames (n, height, width[, channels]) of one shape to another by a triangle filter, rounded half up.

    The filter is as wide as a pixel of the smaller picture on either side: between pixels it is linear where a picture
    grows, and no pixel is passed over where it shrinks. Raises ValueError for a side without pixels.
    """
    rows, columns = Filter(old[0], new[0]), Filter(old[1], new[1])

    def resize(frames: Pixels) -> Pixels:
        # A pixel with one weight has 24 bits, which float32 holds, with two of them 40.
        values = rows(frames.reshape(len(frames), old[0], -1).astype(np.float32))
        values = columns(values.reshape(len(frames) * new[0], old[1], -1).astype(np.float64))
        pixels: Pixels = np.floor(values / ONE**2 + 0.5).astype(np.uint8)
        return pixels.reshape(len(frames), *new)

    return resize


class Filter:
    """Makes `new` pixels of `old` ones in a row.

    sources, shares: (new, taps), which old pixels a new one is made of, and by which weights; these are whole numbers,
    ONE together for each new pixel. Raises ValueError for a row without pixels.
    """

    def __init__(self, old: int, new: int) -> None:
        if min(old, new) < 1:
            raise ValueError(f"{old} pixels cannot become {new}")
        centres = (2 * np.arange(new, dtype=np.int64)[:, None] + 1) * old  # places in halves of 1/new of an old pixel
        places = (2 * np.arange(old, dtype=np.int64) + 1) * new
        reach = np.maximum(0, 2 * max(old, new) - np.abs(places - centres))
        shares = reach * ONE // reach.sum(axis=1, keepdims=True)
        shares[np.arange(new), shares.argmax(axis=1)] += ONE - shares.sum(axis=1)
        taps = int((shares > 0).sum(axis=1).max())
        first = np.minimum((shares > 0).argmax(axis=1), old - taps)
        self.sources = first[:, None] + np.arange(taps)
        self.shares = np.take_along_axis(shares, self.sources, axis=1)

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """From (n, old, m) to (n, new, m), ONE times as large."""
        made = np.zeros((len(values), len(self.shares), values.shape[2]), values.dtype)
        for source, share in zip(self.sources.T, self.shares.T, strict=True):
            made += values[:, source] * share[:, None].astype(values.dtype)
        return made


def _picture(preprocessing: Preprocessing) -> tuple[int, ...]:
    shape = tuple(preprocessing.frame_shape)
    if len(shape) not in (2, 3) or preprocessing.dtype not in ("", "uint8"):
        raise ValueError(f"colour, resize and crop are for pictures of uint8, not for {shape} {preprocessing.dtype}")
    return shape


def _colour(shape: tuple[int, ...], colour: int) -> tuple[list[Step], tuple[int, ...]]:
    channels = shape[2] if len(shape) == 3 else 1  # noqa: PLR2004 - height, width, channels
    if channels not in (1, RGB_CHANNELS):
        raise ValueError(f"the colour of {channels} channels is not known")
    coloured = (*shape[:2], RGB_CHANNELS)
    if colour in (COLOUR_RGB, COLOUR_BGR) and channels == 1:
        return [lambda frames: np.repeat(frames.reshape(len(frames), *shape[:2], 1), RGB_CHANNELS, axis=3)], coloured
    if colour == COLOUR_BGR:
        return [lambda frames: frames[..., ::-1]], coloured
    if colour == COLOUR_GREY and channels == RGB_CHANNELS:
        return [grey], shape[:2]
    if colour in (COLOUR_RGB, COLOUR_GREY):
        return [], shape
    raise ValueError(f"colour {colour} is not known here")


def _cropping(old: tuple[int, ...], new: tuple[int, ...]) -> Step:
    top, left = (old[0] - new[0]) // 2, (old[1] - new[1]) // 2
    if top < 0 or left < 0 or not new[0] or not new[1]:
        raise ValueError(f"{new[0]} x {new[1]} pixels cannot be cut out of {old[0]} x {old[1]}")
    return lambda frames: frames[:, top : top + new[0], left : left + new[1]]
