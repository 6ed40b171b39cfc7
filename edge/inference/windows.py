"""A stream of samples becomes windows: so many samples each, beginning so many after the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge.inference.entities import Blueprint
from edge.inference.samples import Lines, Samples

RUN_BYTES = 4 * 1024 * 1024
"""Windows that are made at once; where they overlap, a little text makes many."""


@dataclass(frozen=True, slots=True)
class Framing:
    """length, hop: samples. dtype: numpy's name for the values of a window, (length, channels)."""

    length: int
    channels: int
    hop: int
    dtype: str

    @classmethod
    def of(cls, blueprint: Blueprint, hop: int) -> Framing:
        """What a model takes; hop 0: windows side by side. Raises ValueError for one that takes pictures."""
        shape = blueprint.frame_shape
        if len(shape) > 2:  # noqa: PLR2004 - length, channels
            raise ValueError(f"the model takes pictures of {' x '.join(map(str, shape))}, not windows of samples")
        return cls(shape[0], shape[1] if len(shape) > 1 else 1, hop or shape[0], blueprint.frame_dtype.str)

    @property
    def limits(self) -> tuple[float, float]:
        """What the values of samples may be."""
        dtype = np.dtype(self.dtype)
        limits = np.finfo(np.float32) if dtype.kind == "f" else np.iinfo(dtype)
        return float(limits.min), float(limits.max)

    @property
    def window_bytes(self) -> int:
        """Size of one."""
        return self.length * self.channels * np.dtype(self.dtype).itemsize


class Windows:
    """Cuts one stream from a place on.

    skip: samples to pass over before the next window, where windows are further apart than long. place: where in the
    stream the next window begins, once these are passed over.
    """

    def __init__(self, framing: Framing, place: int, skip: int) -> None:
        self.skip = skip
        self.place = place
        self._framing = framing
        self._waiting = Samples(np.empty((0, framing.channels)), np.empty(0, np.int64), place)

    def add(self, samples: Samples) -> NDArray[np.uint8]:
        """The windows that are complete now, uint8 (n, window_bytes)."""
        passed = min(self.skip, len(samples))
        self.skip -= passed
        waiting = Samples(
            np.concatenate([self._waiting.values, samples.values[passed:]]),
            np.concatenate([self._waiting.offsets, samples.offsets[passed:]]),
            samples.end,
        )
        length, hop = self._framing.length, self._framing.hop
        count = max(0, (len(waiting) - length) // hop + 1)
        made = self._cut(waiting.values, count)
        self.skip += max(0, count * hop - len(waiting))
        self._waiting = waiting.part(count * hop, len(waiting))
        self.place = int(self._waiting.offsets[0]) if len(self._waiting) else samples.end
        return made

    def start_anew(self) -> None:
        """Samples are missing here: no window spans them."""
        self._waiting = self._waiting.part(0, 0)
        self.skip = 0

    def _cut(self, values: NDArray[np.float64], count: int) -> NDArray[np.uint8]:
        dtype = np.dtype(self._framing.dtype)
        if not count:
            return np.empty((0, self._framing.window_bytes), np.uint8)
        whole = values if dtype.kind == "f" else np.rint(values)
        cut = sliding_window_view(whole.astype(dtype), self._framing.length, axis=0)
        cut = cut[: (count - 1) * self._framing.hop + 1 : self._framing.hop]
        return np.ascontiguousarray(cut.transpose(0, 2, 1)).view(np.uint8).reshape(count, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Windows, uint8 (n, window_bytes), n from 1 up, and the place and skip of the one after them."""

    windows: NDArray[np.uint8]
    place: int
    skip: int


class Cutter:
    """Text to windows, from a place in the stream on. columns: as those of `Lines`."""

    def __init__(self, framing: Framing, columns: Sequence[int], place: int, skip: int) -> None:
        self.framing = framing
        self.lines = Lines(framing.channels, columns, framing.limits, place)
        self._windows = Windows(framing, place, skip)

    def cut(self, data: bytes) -> list[Cut]:
        """The windows that are complete now."""
        made = []
        for samples in self._parts(self.lines.feed(data)):
            windows = self._windows.add(samples)
            if len(windows):
                made.append(Cut(windows, self._windows.place, self._windows.skip))
        return made

    def _parts(self, runs: Sequence[Samples]) -> Iterator[Samples]:
        """Few enough samples at once."""
        size = max(1, RUN_BYTES // self.framing.window_bytes) * self.framing.hop
        for place, samples in enumerate(runs):
            if place:
                self._windows.start_anew()
            for start in range(0, len(samples), size):
                yield samples.part(start, start + size)
