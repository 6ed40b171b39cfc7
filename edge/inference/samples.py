"""Lines of text become samples: a line is one, its numbers the channels, with commas, semicolons or blanks between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_LINE_BYTES = 64 * 1024

_SEPARATORS = bytes.maketrans(b",;\t\r", b"    ")
_NEWLINE = 10


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Consecutive ones. values: float64 (n, channels).

    offsets: int64 (n,), where each line begins, end: where the last ends, in bytes of the stream.
    """

    values: NDArray[np.float64]
    offsets: NDArray[np.int64]
    end: int

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> Samples:
        """Some of them. No copy."""
        end = int(self.offsets[stop]) if stop < len(self) else self.end
        return Samples(self.values[start:stop], self.offsets[start:stop], end)


class Lines:
    """Reads a stream from `offset` on, piece by piece.

    columns: which of a line's numbers are channels, from 0; empty: all, and they must be so many. limits: what values
    may be. malformed: lines that are no sample, but for the first of the stream, which may be a heading. problem: what
    was wrong with the last of them.
    """

    def __init__(self, channels: int, columns: Sequence[int], limits: tuple[float, float], offset: int) -> None:
        self.malformed = 0
        self.problem = ""
        self.offset = offset
        self._channels = channels
        self._columns = list(columns) or None
        self._limits = limits
        self._rest = b""

    def feed(self, data: bytes) -> list[Samples]:
        """The samples that are complete now; between two entries, which may be empty, is a line that is none."""
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        block, start = whole + newline, self.offset
        self.offset += len(block)
        self._rest = rest
        if len(rest) <= MAX_LINE_BYTES:
            return self._of(block, start)
        self._refuse(rest, self.offset, "it does not end")
        self.offset += len(rest)
        self._rest = b""
        return [*self._of(block, start), self._nothing(self.offset)]

    def _of(self, block: bytes, start: int) -> list[Samples]:
        if not block.strip():
            return [self._nothing(start + len(block))]
        try:
            values = self._parsed(_lines(block))
        except ValueError:
            return self._one_by_one(block, start)
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE)
        if len(values) != len(ends):  # there are empty lines
            return self._one_by_one(block, start)
        return [Samples(values, start + np.concatenate([[0], ends[:-1] + 1]), start + len(block))]

    def _one_by_one(self, block: bytes, start: int) -> list[Samples]:
        runs, found, places = [], [np.empty((0, self._channels))], []
        for line in block.removesuffix(b"\n").split(b"\n"):
            if line.strip():
                try:
                    found.append(self._parsed(_lines(line)))
                    places.append(start)
                except ValueError as error:
                    self._refuse(line, start, str(error))
                    runs.append(Samples(np.concatenate(found), np.array(places, np.int64), start))
                    found, places = found[:1], []
            start += len(line) + 1
        return [*runs, Samples(np.concatenate(found), np.array(places, np.int64), start)]

    def _nothing(self, end: int) -> Samples:
        return Samples(np.empty((0, self._channels)), np.empty(0, np.int64), end)

    def _parsed(self, lines: list[str]) -> NDArray[np.float64]:
        """(n, channels). Raises ValueError for what is no sample."""
        values = np.loadtxt(lines, np.float64, comments=None, usecols=self._columns, ndmin=2)
        if values.shape[1] != self._channels:
            raise ValueError(f"{values.shape[1]} numbers, the model takes {self._channels}")
        low, high = self._limits
        if not ((values >= low) & (values <= high)).all():  # NaN is not either
            raise ValueError(f"a value is not within {low:g} to {high:g}")
        return values

    def _refuse(self, line: bytes, start: int, problem: str) -> None:
        if start:
            self.malformed += 1
            self.problem = f"{line[:40]!r} at byte {start}: {problem}"


def _lines(block: bytes) -> list[str]:
    return block.translate(_SEPARATORS).decode("ascii").split("\n")
