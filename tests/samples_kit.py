"""Frames with results as a device has them, and a device that samples them, as the samples' tests need them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.inference.entities import Answered, Blueprint, FrameRun, MicroBatch, Outcome
from protos.kit.columns import Results, encode
from protos.v1.manifest_pb2 import Preprocessing, Variant
from protos.v1.samples_pb2 import SamplePolicies, SamplePolicy

SHAPE = (4, 5)
FRAME_BYTES = 20
MANIFEST = b"m" * 32


def results(
    confidence: list[float],
    first_frame: int = 1,
    source: str = "camera",
    model: str = "digits",
    manifest: bytes = MANIFEST,
) -> Results:
    count = len(confidence)
    return Results(
        model=model,
        version=1,
        manifest=manifest,
        source=source,
        frame=np.arange(first_frame, first_frame + count, dtype=np.uint64),
        captured_us=np.arange(count, dtype=np.int64) + 1_700_000_000_000_000,
        label=(np.arange(count) % 3).astype(np.uint16),
        confidence=np.array(confidence, np.float32),
        latency_us=np.ones(count, np.uint32),
    )


def pictures(count: int, first_frame: int = 1, frame_bytes: int = FRAME_BYTES) -> np.ndarray:
    """Frames that differ, by their numbers: uint8 (count, frame_bytes)."""
    made = np.zeros((count, frame_bytes), np.uint8)
    for row in range(count):
        made[row] = np.random.default_rng(first_frame + row).integers(0, 256, frame_bytes, np.uint8)
    return made


def answered(found: Results, pixels: np.ndarray, shape: tuple[int, ...] = SHAPE) -> Answered:
    """The frames in two runs, as they come when a batch takes the rest of one and the begin of the next."""
    first, cut = int(found.frame[0]), len(found) // 2
    parts = [(first, pixels[:cut]), (first + cut, pixels[cut:])]
    runs = tuple(FrameRun(number, part, np.zeros(len(part), np.int64), 0) for number, part in parts if len(part))
    blueprint = Blueprint(
        Path("model.tflite"), Variant(), Preprocessing(frame_shape=shape), 1, found.manifest, found.model, found.version
    )
    return Answered(MicroBatch(found.source, runs), Outcome(encode(found)), blueprint)


def policies(**changes: object) -> SamplePolicies:
    """One policy: unsure frames of digits, within a budget that holds them all."""
    fields = {"name": "unsure", "model": "digits", "below": 0.5, "bytes_per_day": 1 << 30} | changes
    return SamplePolicies(policies=[SamplePolicy(**fields)])  # type: ignore[arg-type]
