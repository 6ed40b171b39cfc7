"""What becomes of recorded frames: `python -m tests.prepared_digests` writes the digests, as this processor makes them.

A child process, since numpy and its matrix library choose their code for the processor when they are loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys

import numpy as np

from edge.inference.preprocessing import preparation
from edge.inference.shapes import frame_dtype
from protos.v1.manifest_pb2 import COLOUR_BGR, COLOUR_GREY, COLOUR_RGB, Preprocessing, Size, TensorSpec

INT8 = TensorSpec(dtype="int8", scale=0.0187, zero_point=-14)
FLOAT = TensorSpec(dtype="float32")
USUAL = TensorSpec(dtype="int8", scale=1 / 255, zero_point=-128)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

CASES = {
    "pixels as they are": (Preprocessing(frame_shape=(28, 28), scale=1 / 255), USUAL),
    "grey to smaller": (Preprocessing(frame_shape=(37, 53), scale=1 / 255, resize=Size(height=28, width=28)), INT8),
    "grey to larger": (Preprocessing(frame_shape=(11, 9), scale=1 / 255, resize=Size(height=28, width=31)), FLOAT),
    "colour to grey": (
        Preprocessing(frame_shape=(48, 64, 3), scale=1 / 255, colour=COLOUR_GREY, resize=Size(height=28, width=28)),
        INT8,
    ),
    "grey to colour": (Preprocessing(frame_shape=(8, 8), scale=1 / 127.5, offset=-1, colour=COLOUR_RGB), FLOAT),
    "as ImageNet": (
        Preprocessing(
            frame_shape=(60, 80, 3),
            scale=1 / 255,
            resize=Size(height=36, width=48),
            crop=Size(height=32, width=32),
            mean=MEAN,
            deviation=DEVIATION,
        ),
        FLOAT,
    ),
    "as ImageNet, quantised, BGR": (
        Preprocessing(
            frame_shape=(60, 80, 3),
            scale=1 / 255,
            colour=COLOUR_BGR,
            resize=Size(height=36, width=48),
            crop=Size(height=32, width=32),
            mean=MEAN,
            deviation=DEVIATION,
        ),
        INT8,
    ),
    "sensor values": (
        Preprocessing(frame_shape=(64, 3), scale=0.01, dtype="int16", mean=(1.0, -2.0, 0.5), deviation=DEVIATION),
        FLOAT,
    ),
    "sensor values, quantised": (
        Preprocessing(frame_shape=(64, 2), scale=0.3, offset=0.1, dtype="float32", mean=(0.2,), deviation=(3.3,)),
        INT8,
    ),
}


def frames(preprocessing: Preprocessing, count: int = 5) -> np.ndarray:
    """The same in every run and on every machine."""
    numbers = np.arange(count * math.prod(preprocessing.frame_shape), dtype=np.uint64)
    noise = (numbers * np.uint64(2654435761) >> np.uint64(13)) & np.uint64(0xFFFF)
    shape, dtype = (count, *preprocessing.frame_shape), frame_dtype(preprocessing)
    if dtype == np.uint8:
        return (noise & np.uint64(0xFF)).astype(dtype).reshape(shape)
    return (noise.astype(np.int64) - 0x8000).astype(dtype).reshape(shape)


def digests() -> dict[str, str]:
    """SHA-256 over the input tensors of each case."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(preparation(steps, spec)(frames(steps))).tobytes()).hexdigest()
        for name, (steps, spec) in CASES.items()
    }


if __name__ == "__main__":
    json.dump(digests(), sys.stdout, indent=1)
