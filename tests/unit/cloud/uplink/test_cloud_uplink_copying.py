"""Columns packed as PostgreSQL's binary COPY: byte by byte what the format's own description says."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloud.uplink.copying import RowFormat, runs


def test_a_row_is_its_field_count_then_each_field_behind_its_length() -> None:
    packed = RowFormat({"id": "i4", "frame": "i8", "share": "f4"}).pack(
        {"id": 7, "frame": np.array([1, 2**40], np.uint64), "share": np.array([0.5, -1], np.float32)}, 2
    )
    rows = [struct.pack(">hiiiqif", 3, 4, 7, 8, frame, 4, share) for frame, share in ((1, 0.5), (2**40, -1.0))]
    assert bytes(packed) == b"".join(rows)


def test_no_rows_are_no_bytes() -> None:
    assert bytes(RowFormat({"id": "i4"}).pack({"id": 1}, 0)) == b""


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(1, 50)), max_size=20))
def test_runs_are_what_ranges_are(wanted: list[tuple[int, int]]) -> None:
    numbers = runs([first for first, _ in wanted], np.array([count for _, count in wanted], np.int64))
    assert numbers.tolist() == [n for first, count in wanted for n in range(first, first + count)]
