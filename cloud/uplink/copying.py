"""Rows as PostgreSQL's binary COPY wants them, packed column by column: no Python object for a row.

The format (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"): a header; for each row the number
of its fields as int16, and each field as its length in an int32 and its bytes, all big-endian; at the end an int16 of
-1. Our columns have fixed widths and are never null, so that a row is one numpy record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"


class RowFormat:
    """The record of a table's columns, given with their numpy types, such as {"seq": "i8", "confidence": "f4"}."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = tuple(columns)
        fields = [("fields", ">i2")]
        for name, kind in columns.items():
            fields += [(f"{name} length", ">i4"), (name, f">{kind}")]
        self._record = np.dtype(fields)
        self._empty = np.zeros((), self._record)
        self._empty["fields"] = len(self._columns)
        for name in self._columns:
            self._empty[f"{name} length"] = self._record[name].itemsize

    def pack(self, columns: Mapping[str, NDArray[Any] | int], rows: int) -> memoryview:
        """The rows' bytes, without header and trailer. Each column is an array (rows,), or one number for all rows."""
        packed = np.full(rows, self._empty)
        for name in self._columns:
            packed[name] = columns[name]
        return packed.data.cast("B")


def runs(firsts: Sequence[int], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Consecutive numbers of several runs, one after the other: runs([5, 1], [2, 3]) is 5, 6, 1, 2, 3."""
    starts = np.cumsum(counts) - counts
    numbers: NDArray[np.int64] = np.repeat(np.asarray(firsts, np.int64) - starts, counts)
    return numbers + np.arange(len(numbers))
