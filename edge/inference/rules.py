"""What is taken from a source, and how much of it at once. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.inference.entities import Blueprint, Cost, MalformedFrames
from protos.topics import MAX_BATCH_ROWS

MAX_FRAME = 2**62
MAX_SPAN = 2**32
"""The frame numbers of one batch of results lie within this of its first (they travel as 32-bit offsets)."""

AS_GOOD = 1.01
"""A batch counts as good as the best if a frame in it takes no more than this times the shortest."""

NEWS = 0.1
"""Share of the newest micro-batch in what a frame is believed to take."""

SLOT_BYTES = 8 * 1024 * 1024
"""Frames of a micro-batch take no more memory than this, unless a single one does."""

QUEUE_BYTES = 32 * 1024 * 1024
QUEUE_S = 1.0
LEAST_QUEUED = 4
"""Frames that one source may have unsettled take so much memory at most, and so long to infer; a few it always may."""

ALWAYS_AHEAD = 2
"""Micro-batches with the model at once: while it infers one, the next is there already."""

MOST_AHEAD = 4
AHEAD_S = 0.04
"""Of full ones more, up to so much work: for so long other programs may keep the agent from handing over the next."""

GATHER_S = 0.02
"""Under load results are committed so long after the commit before: a disk is slow and wears, and many share one."""

FIRST_RESTART_S = 0.1
LONGEST_RESTART_S = 30.0
HUNG_TIMES = 10
"""A micro-batch is not hung before so many times what it should take."""


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


def misfit(frame_bytes: int, shape: Sequence[int], value_bytes: int = 1) -> str:
    """Why frames of so many bytes are not what a model with this frame shape takes; empty if they are."""
    wanted = math.prod(shape) * value_bytes
    if frame_bytes == wanted:
        return ""
    values = "pixels" if value_bytes == 1 else f"values of {value_bytes} bytes"
    return f"frames of {frame_bytes} bytes, but the model takes {' x '.join(map(str, shape))} {values} ({wanted} bytes)"


def unusable(pixels: NDArray[np.uint8], blueprint: Blueprint) -> str:
    """Why frames, uint8 (n, bytes of a frame), are none for this model; empty if they are."""
    dtype = blueprint.frame_dtype
    if problem := misfit(pixels.shape[1], blueprint.frame_shape, dtype.itemsize):
        return problem
    if dtype.kind == "f" and not np.isfinite(np.ascontiguousarray(pixels).view(dtype)).all():
        return "frames with values that are not numbers"
    return ""


def known(first_frame: int, count: int, accepted: int) -> int:
    """How many frames at the front of a batch were accepted before, when `accepted` is the last frame that was."""
    return min(count, max(0, accepted + 1 - first_frame))


def has_room(held: int, count: int, limit: int) -> bool:
    """Whether a source that has `held` frames unsettled may hand in `count` more. An empty queue takes any batch."""
    return held == 0 or held + count <= limit


def overflow(waiting: int, in_work: int, count: int, limit: int) -> int:
    """How many of the oldest frames to drop, when a source that has so many frames hands in `count` more.

    The newest frame always stays: with it the source's watermark passes those that are dropped.
    """
    return max(0, min(waiting + in_work + count - limit, waiting + count - 1))


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


def cost_of(taken_ns: Mapping[int, int]) -> Cost:
    """What a model takes, from what batches of these sizes took; a batch of one frame must be among them.

    The best batch is the largest that is as good as any: what Python does around an invocation is measured with warm
    caches here, and weighs more when the model and other programs share them.
    """
    frame_ns = {batch: taken / batch for batch, taken in taken_ns.items()}
    best = max(batch for batch, taken in frame_ns.items() if taken <= AS_GOOD * min(frame_ns.values()))
    return Cost(max(0.0, frame_ns[1] - frame_ns[best]) / 1000, frame_ns[best] / 1000, best)


def observed(cost: Cost, count: int, taken_us: float) -> Cost:
    """The cost as believed after a micro-batch of `count` frames took so long: it follows a device that slows down."""
    frame_us = max(0.0, taken_us - cost.fixed_us) / count
    return replace(cost, frame_us=cost.frame_us + NEWS * (frame_us - cost.frame_us))


def batch_limit(cost: Cost, bound_us: float, most: int) -> int:
    """How many frames to infer at once at most, so that they take no longer than `bound_us`, by the cost believed.

    At least one, at most `most`; whole batches of the best size where it holds more than one of them.
    """
    within = int((bound_us - cost.fixed_us) / cost.frame_us) if cost.frame_us else most
    limit = min(most, max(1, within))
    return limit - limit % cost.best if limit > cost.best else limit


def least_begun(batches: int, frames: int, cost: Cost, limit: int) -> int | None:
    """How many frames must wait before a model of this `cost` is given a micro-batch of at most `limit`; None: no more.

    It has so many `batches` already, with so many `frames` in all.
    """
    if batches < ALWAYS_AHEAD:
        return 1
    ahead_us = batches * cost.fixed_us + frames * cost.frame_us
    return limit if batches < MOST_AHEAD and ahead_us < AHEAD_S * 1e6 else None


def slot_frames(most: int, frame_bytes: int) -> int:
    """Frames of this size that a micro-batch may have where `most` are asked for: large ones take memory."""
    return min(most, max(1, SLOT_BYTES // frame_bytes))


def queue_limit(most: int, frame_bytes: int, cost: Cost | None) -> int:
    """Frames of this size that a source may have unsettled where `most` are asked for.

    Fewer if they are large, or if the model, of this `cost`, would take long for them: what waits becomes old.
    """
    limit = max(LEAST_QUEUED, min(most, QUEUE_BYTES // frame_bytes))
    if cost is None or not cost.frame_us:
        return limit
    return min(limit, max(LEAST_QUEUED, int(QUEUE_S * 1e6 / cost.frame_us)))


def gather_s(since_commit_s: float, *, more_coming: bool) -> float:
    """How long to wait for more results before the next commit: not at all if none are on their way."""
    return max(0.0, GATHER_S - since_commit_s) if more_coming else 0.0


def is_hung(waited_s: float, count: int, cost: Cost, bound_s: float) -> bool:
    """Whether a model that has been at a micro-batch of `count` frames for so long is to be given up."""
    return waited_s > max(bound_s, HUNG_TIMES * (cost.fixed_us + cost.frame_us * count) / 1e6)


def restart_s(failures: int) -> float:
    """How long to wait before a model's process is started again, after so many ends without an answer in between."""
    return min(LONGEST_RESTART_S, FIRST_RESTART_S * float(2 ** min(failures, 16)))
