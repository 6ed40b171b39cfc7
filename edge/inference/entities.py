"""The nouns of inference. What holds frames or answers holds many: numpy columns, never an object a frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.inference import shapes
from protos.topics import DEFAULT_SLOT, MAX_BATCH_ROWS
from protos.v1.manifest_pb2 import Preprocessing, Variant
from protos.v1.sketches_pb2 import Reference


class BadModel(Exception):
    """The file is no model that this interpreter can run, or not the model that its manifest describes."""


class MalformedFrames(ValueError):
    """A batch of frames that contradicts itself or the contract: a defect of the source. Nothing of it was taken."""


class SourceBusy(Exception):
    """Another stream hands in frames under this source's name; end it first."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the model says of `n` frames. label: uint16 (n,), class index. confidence: float32 (n,), 0 to 1."""

    label: NDArray[np.uint16]
    confidence: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, slots=True, eq=False)
class Blueprint:
    """Which file answers, how it is run, and the names that its results bear. manifest: digest. labels: by class.

    reference: what it answers to held-out data; empty: not known. background: it has a processor only when nobody else
    wants it, and is the first to go when memory is short.
    nice: by how much its process yields to others. slot: the one that it answers for.
    """

    file: Path
    variant: Variant
    preprocessing: Preprocessing
    threads: int
    manifest: bytes
    model: str
    version: int
    labels: tuple[str, ...] = ()
    reference: Reference = field(default_factory=Reference)
    background: bool = False
    nice: int = 0
    slot: str = DEFAULT_SLOT

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Height, width[, channels] of the frames it takes; of windows of sensor values length[, channels]."""
        return tuple(self.preprocessing.frame_shape)

    @property
    def frame_dtype(self) -> np.dtype[np.generic]:
        """Of their values."""
        return shapes.frame_dtype(self.preprocessing)

    @property
    def frame_bytes(self) -> int:
        """Size of one of them."""
        return shapes.frame_bytes(self.preprocessing)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model takes here, wall time: fixed_us for each micro-batch, frame_us for each frame in it.

    best: frames in one invocation from which on more of them gain nothing.
    """

    fixed_us: float
    frame_us: float
    best: int


class Overload(Enum):
    """What happens when a source hands in more than the device infers.

    WAIT: it is held back, and loses nothing. DROP_OLDEST: it cannot wait, as a camera; of its frames that wait the
    oldest are dropped and counted, and the newest are inferred.
    """

    WAIT = "wait"
    DROP_OLDEST = "drop oldest"


@dataclass(frozen=True, slots=True, eq=False)
class FrameRun:
    """`n` consecutive frames of one source, first_frame .. first_frame + n - 1.

    pixels: uint8 (n, bytes of a frame). captured_us: int64 (n,), Unix time by the source. taken_ns: when the agent took
    them, by its monotonic clock.
    """

    first_frame: int
    pixels: NDArray[np.uint8]
    captured_us: NDArray[np.int64]
    taken_ns: int

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def frame_bytes(self) -> int:
        """Size of one frame."""
        return int(self.pixels.shape[1])

    @property
    def last_frame(self) -> int:
        """The number of the last frame."""
        return self.first_frame + len(self) - 1

    def part(self, start: int, stop: int) -> FrameRun:
        """The frames at start .. stop - 1 of this run, by position. No copy."""
        return FrameRun(self.first_frame + start, self.pixels[start:stop], self.captured_us[start:stop], self.taken_ns)


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """What is inferred at once: runs of one source, their frames rising; gaps between them are fine."""

    source: str
    runs: tuple[FrameRun, ...]

    def __len__(self) -> int:
        return sum(len(run) for run in self.runs)

    @property
    def frame_bytes(self) -> int:
        """Size of one frame."""
        return self.runs[0].frame_bytes

    @property
    def last_frame(self) -> int:
        """The number of the last frame."""
        return self.runs[-1].last_frame


@dataclass(frozen=True, slots=True)
class Limits:
    """batch_frames: in a micro-batch, 1 to MAX_BATCH_ROWS. latency_ms: what one may take, by which fewer frames go in.

    queue_frames: frames that one source may have unsettled.
    """

    batch_frames: int = 1024
    latency_ms: float = 50.0
    queue_frames: int = 3072

    def __post_init__(self) -> None:
        if not 0 < self.batch_frames <= MAX_BATCH_ROWS:
            raise ValueError(f"batch_frames is {self.batch_frames}: use 1 to {MAX_BATCH_ROWS}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A micro-batch's end. payload: its results as they will travel; problem: why it has none.

    tried: false if the model never began on it. began_ns, ended_ns: monotonic clock. model_ns: processor time of the
    interpreter itself.
    """

    payload: bytes = b""
    problem: str = ""
    tried: bool = True
    began_ns: int = 0
    ended_ns: int = 0
    model_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """Frames with the durable results that they came to, and the model that answered."""

    batch: MicroBatch
    outcome: Outcome
    blueprint: Blueprint


@dataclass(frozen=True, slots=True)
class Reply:
    """What a source is told. watermark: every frame up to it is settled. problem: why frames have no result.

    dropped: frames that its stream has lost to overload so far.
    """

    watermark: int
    problem: str = ""
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """One interval. inferences, errors: frames with and without a result. dropped: by overload, never inferred.

    crashes: ends of a model's process that nobody ordered. Latency: frame taken to result, µs.
    """

    inferences: int
    errors: int
    dropped: int
    crashes: int
    latency_p50_us: int
    latency_p95_us: int
