"""The models that inference on the device is measured with."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.inference.engine import tensor_specs
from protos.v1.manifest_pb2 import Preprocessing, Variant


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is measured: its file, and what a manifest would say of it."""

    path: Path
    variant: Variant
    preprocessing: Preprocessing

    def frames(self, count: int) -> NDArray[np.uint8]:
        """uint8 (count, *frame_shape) of noise."""
        shape = (count, *self.preprocessing.frame_shape)
        return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def make(folder: Path) -> dict[str, Subject]:
    """Both models by name, made by a child process: this one is measured, and stays without TensorFlow."""
    command = [sys.executable, "-m", "benchmarks.on_device.convert", str(folder)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    return {path.stem.partition("-")[0]: subject(path) for path in folder.glob("*.tflite")}


def subject(path: Path) -> Subject:
    """What is to be said of a file whose name ends with the side of its frames."""
    side = int(path.stem.rpartition("-")[2])
    input_spec, output_spec = tensor_specs(path.read_bytes())
    variant = Variant(name="int8", input=input_spec, output=output_spec)
    return Subject(path, variant, Preprocessing(frame_shape=(side, side), scale=1 / 255))
