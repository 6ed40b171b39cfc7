"""What is taken from a source, and how much of it at once. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge.inference.entities import MalformedFrames
from protos.topics import MAX_BATCH_ROWS

MAX_FRAME = 2**62
MAX_SPAN = 2**32
"""The frame numbers of one batch of results lie within this of its first (they travel as 32-bit offsets)."""


@dataclass(frozen=True, slots=True)
class Take:
    """How much is taken from the front of a queue of runs: `whole` runs, and `part` frames of the next one."""

    whole: int
    part: int


def check_batch(first_frame: int, count: int, pixel_bytes: int, offset_bytes: int, first_captured_us: int) -> None:
    """Raise MalformedFrames if these cannot be a batch of frames of any model."""
    if not 0 < count <= MAX_BATCH_ROWS:
        raise MalformedFrames(f"count is {count}: a batch has 1 to {MAX_BATCH_ROWS} frames")
    if not 0 < first_frame <= MAX_FRAME - count:
        raise MalformedFrames(f"first_frame is {first_frame}: frames are numbered from 1 and below 2**62")
    if not pixel_bytes or pixel_bytes % count:
        raise MalformedFrames(f"pixels has {pixel_bytes} bytes, which are not {count} frames of equal size")
    if offset_bytes != 4 * count:
        raise MalformedFrames(f"captured_offset_us has {offset_bytes} bytes: {count} frames need {4 * count}")
    if first_captured_us >= MAX_FRAME:
        raise MalformedFrames(f"first_captured_us is {first_captured_us}: it is microseconds of Unix time, below 2**62")


def misfit(frame_bytes: int, shape: Sequence[int]) -> str:
    """Why frames of so many bytes are not what a model with this frame shape takes; empty if they are."""
    if frame_bytes == math.prod(shape):
        return ""
    return (
        f"frames of {frame_bytes} bytes, but the model takes {' x '.join(map(str, shape))} pixels "
        f"({math.prod(shape)} bytes)"
    )


def known(first_frame: int, count: int, accepted: int) -> int:
    """How many frames at the front of a batch were accepted before, when `accepted` is the last frame that was."""
    return min(count, max(0, accepted + 1 - first_frame))


def has_room(held: int, count: int, limit: int) -> bool:
    """Whether a source that has `held` frames unsettled may hand in `count` more. An empty queue takes any batch."""
    return held == 0 or held + count <= limit


def take(waiting: Sequence[tuple[int, int, int]], limit: int) -> Take:
    """What to infer next of one source's runs (first frame, count, bytes of a frame).

    Up to `limit` frames of one size, their numbers within MAX_SPAN.
    """
    first, _, frame_bytes = waiting[0]
    room, end = limit, first + MAX_SPAN
    for index, (first_frame, count, size) in enumerate(waiting):
        fits = min(room, end - first_frame) if size == frame_bytes else 0
        if count > fits:
            return Take(index, max(0, fits))
        room -= count
    return Take(len(waiting), 0)
