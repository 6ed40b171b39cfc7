"""What one raw frame is, by the signed manifest: its values' type and its size."""

from __future__ import annotations

import math

import numpy as np

from protos.v1.manifest_pb2 import Preprocessing

DTYPES = {"": "|u1", "uint8": "|u1", "int16": "<i2", "float32": "<f4"}
"""By the manifest's name. Frames travel as bytes, little-endian."""


def frame_dtype(preprocessing: Preprocessing) -> np.dtype[np.generic]:
    """Of a frame's values. Raises ValueError for one that this code does not know."""
    if preprocessing.dtype not in DTYPES:
        raise ValueError(f"frames of {preprocessing.dtype!r} are not known here: use uint8, int16 or float32")
    return np.dtype(DTYPES[preprocessing.dtype])


def frame_bytes(preprocessing: Preprocessing) -> int:
    """Size of a frame."""
    return math.prod(preprocessing.frame_shape) * frame_dtype(preprocessing).itemsize
