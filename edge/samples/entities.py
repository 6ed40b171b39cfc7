"""The nouns of samples: policies, what is chosen by them, and how an upload stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class SamplesFailed(Exception):
    """The samples' file could not do what was asked. The message says why; results are not touched by it."""


class Reason(StrEnum):
    """Why a frame is a sample."""

    LOW_CONFIDENCE = "low confidence"
    DISAGREEMENT = "disagreement"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Policy:
    """What to sample of one model's frames (model empty: of any model's).

    below: confidence under which a frame is one. share: of all frames, by lot. bytes_per_day: of all its samples.
    """

    name: str
    model: str
    below: float
    disagreement: bool
    share: float
    bytes_per_day: int


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Places of chosen frames in a batch, int64 (k,), the most telling first; the reasons, in the same order."""

    places: NDArray[np.int64]
    reasons: tuple[Reason, ...]

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class NewSample:
    """A frame to keep. about: an encoded SampleOffer without its id."""

    about: bytes
    pixels: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """A sample that waits, without its pixels."""

    id: int
    size: int
    about: bytes


@dataclass(frozen=True, slots=True)
class Books:
    """waiting: bytes of frames kept. spent: bytes of frames kept in a day (counted from 1970) for a policy."""

    waiting: int = 0
    spent: Mapping[tuple[int, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upload:
    """A sample on its way. sent: bytes sent; None until the server has said from where. unanswered: pieces."""

    id: int
    size: int
    sent: int | None = None
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """What to send next: `size` bytes of a sample from `offset`."""

    id: int
    offset: int
    size: int
