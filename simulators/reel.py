"""The endless reel of held-out digits that a simulated sensor sees: frame number in, picture and true label out."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What no model was trained on. images: uint8 (n, height, width). labels: integers (n,). Raises ValueError."""

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]

    def __post_init__(self) -> None:
        if not len(self.images) or len(self.images) != len(self.labels):
            raise ValueError(
                f"{len(self.images)} images and {len(self.labels)} labels: one label for each of at least one image"
            )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True)
class Reel:
    """One device's view of the digits. Frame N is a pure function of N, so a sensor that starts again resumes rightly.

    start: index of the picture that frame 1 shows.
    """

    digits: HeldOut
    start: int

    @classmethod
    def of(cls, device: str, digits: HeldOut) -> Reel:
        """The reel of `device`: every device begins at a place of its own, the same in every run."""
        return cls(digits, zlib.crc32(device.encode()) % len(digits))

    def frames(self, first: int, count: int) -> NDArray[np.uint8]:
        """Pictures of the frames first .. first + count - 1: uint8 (count, height, width)."""
        return self.digits.images[self._indices(first, count)]

    def truth(self, first: int, count: int) -> list[int]:
        """True labels of the same frames."""
        return [int(label) for label in self.digits.labels[self._indices(first, count)]]

    def _indices(self, first: int, count: int) -> NDArray[np.int64]:
        if first < 1 or count < 1:
            raise ValueError(f"frames are numbered from 1 and come at least one at a time, not {count} from {first}")
        return (self.start + first - 1 + np.arange(count, dtype=np.int64)) % len(self.digits)
