"""A batch of results as columns: numpy arrays on both sides, little-endian bytes on the wire.

The device encodes a batch once; outbox and stream carry the bytes untouched; the cloud decodes the columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from protos.topics import DEFAULT_SLOT, MAX_BATCH_ROWS
from protos.v1 import uplink_pb2

OFFSET = np.dtype("<u4")
LABEL = np.dtype("<u2")
CONFIDENCE = np.dtype("<f4")
LATENCY = np.dtype("<u4")


class Malformed(ValueError):
    """A batch that cannot be read as results; the message names the column and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Results:
    """`n` results of one source by one model version in one slot.

    frame: uint64 (n,), the source's frame numbers, rising. captured_us: int64 (n,), Unix time by the device's clock.
    label: uint16 (n,), class index. confidence: float32 (n,), 0 to 1. latency_us: uint32 (n,), frame taken to result.
    """

    model: str
    version: int
    manifest: bytes
    source: str
    frame: NDArray[np.uint64]
    captured_us: NDArray[np.int64]
    label: NDArray[np.uint16]
    confidence: NDArray[np.float32]
    latency_us: NDArray[np.uint32]
    slot: str = DEFAULT_SLOT

    def __len__(self) -> int:
        return len(self.frame)

    def without_first(self, n: int) -> Results:
        """The results behind the first `n`, over the same memory."""
        if not n:
            return self
        columns = ("frame", "captured_us", "label", "confidence", "latency_us")
        return replace(self, **{name: getattr(self, name)[n:] for name in columns})


def encode(results: Results) -> bytes:
    """The bytes of a ResultBatch. Raises Malformed for an empty batch or more than MAX_BATCH_ROWS rows."""
    count = len(results)
    if not 0 < count <= MAX_BATCH_ROWS:
        raise Malformed(f"a batch has 1 to {MAX_BATCH_ROWS} results, not {count}")
    first_frame, first_captured = int(results.frame[0]), int(results.captured_us[0])
    return uplink_pb2.ResultBatch(
        count=count,
        model=results.model,
        version=results.version,
        manifest=results.manifest,
        source=results.source,
        first_frame=first_frame,
        frame_offset=(results.frame - np.uint64(first_frame)).astype(OFFSET).tobytes(),
        first_captured_us=first_captured,
        # Clocks jump: an offset that does not fit is held at the edge of its range, never wrapped.
        captured_offset_us=np.clip(results.captured_us - first_captured, 0, 2**32 - 1).astype(OFFSET).tobytes(),
        label=results.label.astype(LABEL, copy=False).tobytes(),
        confidence=results.confidence.astype(CONFIDENCE, copy=False).tobytes(),
        latency_us=results.latency_us.astype(LATENCY, copy=False).tobytes(),
        slot="" if results.slot == DEFAULT_SLOT else results.slot,
    ).SerializeToString()


def decode(payload: bytes, expected_count: int) -> Results:
    """The columns in a ResultBatch. Raises Malformed when it is not one, or a column has not `expected_count` rows."""
    try:
        batch = uplink_pb2.ResultBatch.FromString(payload)
    except DecodeError as error:
        raise Malformed("not a ResultBatch") from error
    if batch.count != expected_count or not 0 < batch.count <= MAX_BATCH_ROWS:
        raise Malformed(
            f"count is {batch.count}, the envelope says {expected_count}, allowed are 1 to {MAX_BATCH_ROWS}"
        )
    frame = _column("frame_offset", batch.frame_offset, OFFSET, batch.count).astype(np.uint64)
    captured = _column("captured_offset_us", batch.captured_offset_us, OFFSET, batch.count).astype(np.int64)
    if batch.first_captured_us >= 2**62 or batch.first_frame >= 2**62:
        raise Malformed("first_frame and first_captured_us must be below 2**62")
    confidence = _column("confidence", batch.confidence, CONFIDENCE, batch.count)
    if not np.isfinite(confidence).all():
        raise Malformed("confidence has values that are not numbers")
    return Results(
        model=batch.model,
        version=batch.version,
        manifest=batch.manifest,
        source=batch.source,
        frame=frame + np.uint64(batch.first_frame),
        captured_us=captured + batch.first_captured_us,
        label=_column("label", batch.label, LABEL, batch.count),
        confidence=confidence,
        latency_us=_column("latency_us", batch.latency_us, LATENCY, batch.count),
        slot=batch.slot or DEFAULT_SLOT,
    )


def _column(name: str, data: bytes, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    if len(data) != count * dtype.itemsize:
        raise Malformed(f"column {name} has {len(data)} bytes, {count} rows of {dtype.itemsize} were promised")
    return np.frombuffer(data, dtype)
