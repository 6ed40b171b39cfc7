"""Makes the models to measure with: `python -m benchmarks.on_device.convert FOLDER`. Needs TensorFlow.

The network that `littoral train` trains, on frames of 28 x 28 (MNIST's), and one on frames of 96 x 96 with so many
channels that a frame takes about 5 ms here; both int8. The weights are random: how long a frame takes does not depend
on them.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

from benchmarks.on_device.models import Subject, subject
from cloud.training.converter import convert
from cloud.training.entities import INT8
from cloud.training.network import build
from edge.inference.engine import Engine

MNIST_SIDE = 28
SLOW_SIDE = 96
SLOW_US = 5000
FIRST_CHANNELS = 32
CALIBRATION_IMAGES = 8
CLASSES = 10
FRAMES = 256


def wide(channels: int) -> keras.Model:
    """Five convolutions like those of `littoral train`, the first with so many channels."""
    values = images = layers.Input((SLOW_SIDE, SLOW_SIDE, 1))
    for factor, strides in ((1, 1), (2, 2), (2, 2), (4, 1), (4, 1)):
        values = layers.Conv2D(factor * channels, 3, strides=strides, padding="same", activation="relu")(values)
    return keras.Model(images, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(values)))


def written(network: keras.Model, side: int, path: Path) -> Subject:
    """The network as an int8 file."""
    images = np.random.default_rng(1).integers(0, 256, (CALIBRATION_IMAGES, side, side), dtype=np.uint8)
    path.write_bytes(convert(network, images)[INT8])
    return subject(path)


def frame_us(made: Subject) -> float:
    """Processor time of the interpreter for one frame."""
    engine = Engine(made.path, made.variant, made.preprocessing)
    engine.raw(made.frames(FRAMES))
    return engine.busy_ns / 1000 / FRAMES


def _main(folder: Path) -> None:
    keras.utils.set_random_seed(1)
    written(build((MNIST_SIDE, MNIST_SIDE), CLASSES), MNIST_SIDE, folder / f"mnist-{MNIST_SIDE}.tflite")
    slow = folder / f"5ms-{SLOW_SIDE}.tflite"
    taken_us = frame_us(written(wide(FIRST_CHANNELS), SLOW_SIDE, slow))
    written(wide(round(FIRST_CHANNELS * math.sqrt(SLOW_US / taken_us))), SLOW_SIDE, slow)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
