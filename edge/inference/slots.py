"""Memory that the agent shares with a worker: the frames of a micro-batch go in, its encoded results come out.

Each slot is for one micro-batch. Who may touch it is agreed by messages on a socket: the agent from the reply on, the
worker from the request on.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.inference.entities import MicroBatch

TEXT_BYTES = 1024
"""Room for a source's name, for names in a batch of results beside its columns, or for the end of a problem's text."""

RESULT_BYTES = 18
"""A result's share in the columns of a ResultBatch."""

_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """slots: micro-batches at once. frames: in each, at most. frame_bytes: of one frame."""

    slots: int
    frames: int
    frame_bytes: int

    @property
    def slot_bytes(self) -> int:
        """Size of one slot."""
        return sum(self.parts())

    @property
    def bytes(self) -> int:
        """Size of all."""
        return self.slots * self.slot_bytes

    def parts(self) -> tuple[int, ...]:
        """Sizes of a slot's parts: pixels, three columns of 64 bits, the source's name, the results."""
        sizes = (self.frames * self.frame_bytes, *[8 * self.frames] * 3, TEXT_BYTES)
        results = RESULT_BYTES * self.frames + TEXT_BYTES
        return tuple(-(-size // _ALIGNMENT) * _ALIGNMENT for size in (*sizes, results))


class Slot:
    """One micro-batch's place. pixels: uint8 (frames, frame_bytes). frame, captured_us, taken_ns: (frames,)."""

    def __init__(self, memory: memoryview, layout: Layout) -> None:
        parts = np.split(np.frombuffer(memory, np.uint8), np.cumsum(layout.parts())[:-1])
        self.pixels: NDArray[np.uint8] = parts[0][: layout.frames * layout.frame_bytes].reshape(layout.frames, -1)
        self.frame = parts[1].view(np.uint64)[: layout.frames]
        self.captured_us = parts[2].view(np.int64)[: layout.frames]
        self.taken_ns = parts[3].view(np.int64)[: layout.frames]
        self._source = parts[4]
        self._result = parts[5]

    def put(self, batch: MicroBatch) -> None:
        """Copy the frames in, and all that is known of them."""
        start = 0
        for run in batch.runs:
            stop = start + len(run)
            self.pixels[start:stop] = run.pixels
            self.frame[start:stop] = np.arange(run.first_frame, run.first_frame + len(run), dtype=np.uint64)
            self.captured_us[start:stop] = run.captured_us
            self.taken_ns[start:stop] = run.taken_ns
            start = stop
        name = batch.source.encode()
        self._source[0] = len(name)
        self._source[1 : len(name) + 1] = np.frombuffer(name, np.uint8)

    @property
    def source(self) -> str:
        """Whose frames these are."""
        return self._source[1 : int(self._source[0]) + 1].tobytes().decode()

    def put_result(self, data: bytes) -> int:
        """Write results, or as much of a text as there is room for. Returns the length."""
        length = min(len(data), len(self._result))
        self._result[:length] = np.frombuffer(data[:length], np.uint8)
        return length

    def result(self, length: int) -> bytes:
        """A copy of what was written."""
        return self._result[:length].tobytes()


def share(layout: Layout) -> int:
    """A descriptor of new shared memory. It has no name, so nothing is left of it when its processes have ended."""
    descriptor = os.memfd_create("frames")
    os.ftruncate(descriptor, layout.bytes)
    return descriptor


def attach(descriptor: int, layout: Layout) -> list[Slot]:
    """The slots in shared memory."""
    memory = memoryview(mmap.mmap(descriptor, layout.bytes))
    size = layout.slot_bytes
    return [Slot(memory[start : start + size], layout) for start in range(0, layout.bytes, size)]
