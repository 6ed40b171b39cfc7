"""What a model sees and says as counts in fixed bins, made from columns of many frames: the same on both sides.

A sketch of a minute and one of a thousand devices have the same size, and sketches can be added up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, MutableSequence, Sequence

import numpy as np
from numpy.typing import NDArray

from protos.v1.sketches_pb2 import ChannelSketch, Sketch

CONFIDENCE_EDGES = np.array(
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999], np.float32
)
"""Finer towards 1, where a model that knows its trade has most of its answers."""
CONFIDENCE_BINS = len(CONFIDENCE_EDGES) + 1

CHANGE_BINS = 21
"""Of a change of confidence, -1 to 1; the middle one holds what is smaller than a twentieth."""
_CHANGE_EDGES = np.linspace(-1, 1, CHANGE_BINS + 1)[1:-1]

MOST_LABELS = 1024
"""Classes that are told apart; all above share the last place."""
MOST_CHANNELS = 16
MAX_BYTES = 16 * 1024
"""Size of a message with one sketch or comparison in it."""

COST_BINS = 96
_COST_STEPS = 4
"""Bins of costs in each octave, from 1 µs up: to 16 seconds, within a fifth."""

MAX_COUNT = 2**53
"""Counts beyond it are nobody's: they are lies."""

Counts = NDArray[np.int64]


class BadSketch(ValueError):
    """A sketch that contradicts itself or breaks a limit; the message says where."""


class Tally:
    """A sketch in the making."""

    def __init__(self, classes: int, channels: int) -> None:
        self._labels: Counts = np.zeros(min(max(classes, 1), MOST_LABELS), np.int64)
        self._confidences: Counts = np.zeros(CONFIDENCE_BINS, np.int64)
        self._looked_at = 0
        self._sums = np.zeros((3, min(channels, MOST_CHANNELS)))  # of means, of squared means, of mean squares
        self._min = np.full(self._sums.shape[1], 255, np.uint8)
        self._max = np.zeros(self._sums.shape[1], np.uint8)

    @property
    def frames(self) -> int:
        """How many answers are in it."""
        return int(self._confidences.sum())

    def add(self, labels: NDArray[np.uint16], confidences: NDArray[np.float32]) -> None:
        """Answers to `n` frames: class indices (n,) and confidences (n,)."""
        last = len(self._labels) - 1
        self._labels += np.bincount(np.minimum(labels, last), minlength=last + 1)
        self._confidences += confidence_counts(confidences)

    def look(self, pixels: NDArray[np.uint8]) -> None:
        """Frames as they came in, uint8 (n, bytes of a frame), their channels side by side."""
        channels = self._sums.shape[1]
        values = pixels.reshape(len(pixels), -1, channels)
        real = values.astype(np.float64)
        means = real.mean(axis=1)
        self._looked_at += len(pixels)
        self._sums += [means.sum(axis=0), (means**2).sum(axis=0), (real**2).mean(axis=1).sum(axis=0)]
        self._min = np.minimum(self._min, values.min(axis=(0, 1)))
        self._max = np.maximum(self._max, values.max(axis=(0, 1)))

    def sketch(self) -> Sketch:
        """What was added so far."""
        made = Sketch(
            frames=self.frames,
            labels=self._labels.tolist(),
            confidences=self._confidences.tolist(),
            looked_at=self._looked_at,
        )
        if self._looked_at:
            for means, mean_squares, squares, low, high in zip(*self._sums, self._min, self._max, strict=True):
                made.channels.add(means=means, mean_squares=mean_squares, squares=squares, min=int(low), max=int(high))
        return made


def channels_of(frame_shape: Sequence[int]) -> int:
    """How many channels lie side by side in frames of this shape: height, width[, channels]."""
    colours = 3
    return min(int(frame_shape[2]), MOST_CHANNELS) if len(frame_shape) == colours else 1


def confidence_counts(confidences: NDArray[np.float32]) -> Counts:
    """Frames by bin of confidence, (CONFIDENCE_BINS,)."""
    return np.bincount(np.searchsorted(CONFIDENCE_EDGES, confidences, side="right"), minlength=CONFIDENCE_BINS)


def change_counts(before: NDArray[np.float32], after: NDArray[np.float32]) -> Counts:
    """Frames by bin of the change of their confidences (n,), (CHANGE_BINS,)."""
    change = after.astype(np.float64) - before
    return np.bincount(np.searchsorted(_CHANGE_EDGES, change, side="right"), minlength=CHANGE_BINS)


def added(sketches: Iterable[Sketch]) -> Sketch:
    """All of them as one. They must be of one model version."""
    total = Sketch()
    for sketch in sketches:
        total.frames += sketch.frames
        total.looked_at += sketch.looked_at
        _add_counts(total.labels, sketch.labels)
        _add_counts(total.confidences, sketch.confidences)
        for place, channel in enumerate(sketch.channels):
            if place < len(total.channels):
                _add_channel(total.channels[place], channel)
            else:
                total.channels.add().CopyFrom(channel)
    return total


def check(sketch: Sketch) -> None:
    """Raise BadSketch unless the sketch is within its limits and its columns say the same of its frames."""
    if len(sketch.labels) > MOST_LABELS or len(sketch.channels) > MOST_CHANNELS:
        raise BadSketch(f"{len(sketch.labels)} labels, {len(sketch.channels)} channels: too many")
    if len(sketch.confidences) != CONFIDENCE_BINS:
        raise BadSketch(f"{len(sketch.confidences)} bins of confidence, there are {CONFIDENCE_BINS}")
    if not sum(sketch.labels) == sum(sketch.confidences) == sketch.frames < MAX_COUNT:
        raise BadSketch(f"{sum(sketch.labels)} labels and {sum(sketch.confidences)} confidences of {sketch.frames}")
    values = [value for c in sketch.channels for value in (c.means, c.mean_squares, c.squares)]
    if not all(0 <= value < MAX_COUNT for value in values):
        raise BadSketch("a channel's sums are not numbers from 0 up")


def cost_bin(cost_us: float) -> int:
    """The bin of a frame's processor time in µs."""
    return min(COST_BINS - 1, max(0, int(_COST_STEPS * math.log2(max(cost_us, 1.0)))))


def cost_quantile(counts: Sequence[int], share: float) -> float:
    """The cost in µs that this share of the frames does not exceed, within a bin's width; 0 without frames."""
    upto = np.cumsum(np.asarray(counts, np.float64))
    if not len(upto) or not upto[-1]:
        return 0.0
    return float(2 ** ((int(np.searchsorted(upto, share * upto[-1])) + 0.5) / _COST_STEPS))


def _add_counts(total: MutableSequence[int], counts: Sequence[int]) -> None:
    for place, count in enumerate(counts):
        if place < len(total):
            total[place] += count
        else:
            total.append(count)


def _add_channel(total: ChannelSketch, channel: ChannelSketch) -> None:
    total.means += channel.means
    total.mean_squares += channel.mean_squares
    total.squares += channel.squares
    total.min, total.max = min(total.min, channel.min), max(total.max, channel.max)
