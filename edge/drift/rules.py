"""When a window ends, and which frames are looked at. Pure."""

from __future__ import annotations

LEAST_FRAMES = 500
"""Fewer say little of ten classes: a device with few frames takes a longer window for them."""

LOOK_NS = 20_000_000
LOOKED_AT = 8
"""Of a micro-batch so many frames are looked at, and none so soon after the last: pixels cost more than answers."""


def is_complete(frames: int, lasted_s: float, window_s: float) -> bool:
    """Whether a window is to be compared with the reference."""
    return frames >= LEAST_FRAMES and lasted_s >= window_s


def stride(count: int) -> int:
    """Each how-manieth of `count` frames is looked at."""
    return -(-count // LOOKED_AT)
