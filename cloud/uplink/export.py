"""Results as a Parquet file (https://parquet.apache.org/docs/file-format), for analysis elsewhere.

Day by day, a row group at a time: memory holds one, however long the time is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cloud.uplink.entities import DAY_MS
from cloud.uplink.queries import Queries
from cloud.uplink.questions import Which
from protos.kit.files import sync_folder

GROUP_ROWS = 100_000
_NAME = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("device", _NAME, nullable=False),
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("source", _NAME, nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("model", _NAME, nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("slot", _NAME, nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("latency_us", pa.int64(), nullable=False),
        pa.field("captured_us", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("received_ms", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("sample", pa.int64()),
        pa.field("sample_digest", pa.string()),
    ]
)

Progress = Callable[[int], None]
"""Told of the number of rows written since the last time."""


def export(queries: Queries, which: Which, path: Path, progress: Progress) -> int:
    """Write the results received from which.from_ms to which.to_ms, which must be said; returns how many.

    The file is there when all of it is. Raises OSError.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    written = 0
    try:
        with pq.ParquetWriter(unfinished, SCHEMA, compression="zstd") as writer:
            for day in days(which):
                for columns in queries.in_chunks(day, GROUP_ROWS):
                    group = pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
                    writer.write_table(group, row_group_size=GROUP_ROWS)
                    written += group.num_rows
                    progress(group.num_rows)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(path.absolute().parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return written


def days(which: Which) -> Iterator[Which]:
    """The same, day by day: each is a transaction of its own, and holds up retention for no longer."""
    assert which.from_ms is not None
    assert which.to_ms is not None
    first = which.from_ms
    while first < which.to_ms:
        end = min((first // DAY_MS + 1) * DAY_MS, which.to_ms)
        yield replace(which, from_ms=first, to_ms=end)
        first = end
