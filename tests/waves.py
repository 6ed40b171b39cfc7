"""A small 1-D CNN that tells waves of three frequencies apart, and waves to feed it with. Needs TensorFlow.

A window is float32 (LENGTH, 2): sine and cosine with some noise, about MEAN, times AMPLITUDE.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from protos.v1.manifest_pb2 import Preprocessing

LENGTH = 64
CLASSES = 3
MEAN, AMPLITUDE = 20.0, 5.0

PREPROCESSING = Preprocessing(
    frame_shape=(LENGTH, 2), dtype="float32", scale=1, mean=(MEAN, -MEAN), deviation=(AMPLITUDE, AMPLITUDE)
)


def samples(label: int, count: int, randomness: np.random.Generator) -> np.ndarray:
    """float32 (count, 2), a wave that begins anywhere."""
    angle = (np.arange(count) + randomness.uniform(0, LENGTH)) * (0.1 + 0.25 * label)
    values = np.stack([np.sin(angle), np.cos(angle)], axis=1) + randomness.normal(0, 0.1, (count, 2))
    return (values * AMPLITUDE + (MEAN, -MEAN)).astype(np.float32)


def windows(each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, LENGTH, 2), and their classes (n,)."""
    randomness = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), each)
    return np.stack([samples(label, LENGTH, randomness) for label in labels]), labels


def text(values: np.ndarray) -> bytes:
    """As a sensor writes them."""
    return "".join(f"{','.join(f'{value:.3f}' for value in row)}\n" for row in values).encode()


def models() -> dict[str, bytes]:
    """TFLite files, float32 and int8. They take what PREPROCESSING makes."""
    keras.utils.set_random_seed(1)
    frames, labels = windows(100, seed=1)
    prepared = ((frames - (MEAN, -MEAN)) / AMPLITUDE).astype(np.float32)
    network = keras.Sequential(
        [
            keras.layers.Input((LENGTH, 2)),
            keras.layers.Conv1D(8, 5, strides=2, activation="relu"),
            keras.layers.Conv1D(8, 5, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(CLASSES),
        ]
    )
    network.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(prepared, labels, epochs=12, verbose=0)
    return {"float32": _converter(network).convert(), "int8": _quantised(network, prepared)}


def _converter(network: keras.Model) -> tf.lite.TFLiteConverter:
    signature = tf.TensorSpec([None, LENGTH, 2], tf.float32)
    answer = tf.function(lambda values: tf.nn.softmax(network(values, training=False)), input_signature=[signature])
    return tf.lite.TFLiteConverter.from_concrete_functions([answer.get_concrete_function()])


def _quantised(network: keras.Model, prepared: np.ndarray) -> bytes:
    def representative() -> Iterator[list[np.ndarray]]:
        for window in prepared[::3]:
            yield [window[None]]

    converter = _converter(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()
