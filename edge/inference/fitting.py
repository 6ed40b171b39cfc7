"""Pictures of a camera's size and colour become frames of a model's, as its signed manifest says them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edge.inference.entities import Blueprint
from edge.inference.picture_steps import RGB_CHANNELS, Pixels, Step, grey, in_turn, resizing


def picture_shape(blueprint: Blueprint) -> tuple[int, ...]:
    """Height, width[, channels] of the pictures that a model takes. Raises ValueError if it takes none."""
    shape = blueprint.frame_shape
    if len(shape) not in (2, 3) or blueprint.frame_dtype != np.uint8 or shape[2:] not in ((), (1,), (RGB_CHANNELS,)):
        raise ValueError(f"the model takes no pictures, but frames of {' x '.join(map(str, shape))}")
    return shape


@lru_cache(maxsize=8)
def fitting(given: tuple[int, ...], wanted: tuple[int, ...]) -> Step:
    """From RGB pictures (n, height, width, 3) to frames (n, *wanted).

    Of the picture its centre is taken, as much of it as has the frame's proportions.
    """
    side = given[0] * wanted[1], given[1] * wanted[0]
    height = given[0] if side[0] <= side[1] else max(1, side[1] // wanted[1])
    width = given[1] if side[1] <= side[0] else max(1, side[0] // wanted[0])
    top, left = (given[0] - height) // 2, (given[1] - width) // 2
    coloured = wanted[2:] == (RGB_CHANNELS,)
    channels = (RGB_CHANNELS,) if coloured else ()
    steps: list[Step] = [lambda pictures: pictures[:, top : top + height, left : left + width]]
    if not coloured:
        steps.append(grey)
    if (height, width) != wanted[:2]:
        steps.append(resizing((height, width, *channels), (*wanted[:2], *channels)))

    def fit(pictures: Pixels) -> Pixels:
        return np.ascontiguousarray(in_turn(steps, pictures)).reshape(len(pictures), *wanted)

    return fit
