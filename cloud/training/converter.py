"""A Keras network becomes TFLite files: float32, and full int8 quantised with representative data. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cloud.training.entities import FLOAT, INT8

CALIBRATION_IMAGES = 500


def convert(network: keras.Model, images: NDArray[np.uint8]) -> dict[str, bytes]:
    """TFLite files by variant, with softmax as their last step; the converter folds batch normalisation into weights.

    images: uint8 (n, h, w) of the training set, from which the ranges of all values are learnt.
    """
    return {FLOAT: _converter(network).convert(), INT8: _quantising(_converter(network), images).convert()}


def _converter(network: keras.Model) -> tf.lite.TFLiteConverter:
    signature = tf.TensorSpec([None, *network.input_shape[1:]], tf.float32)
    answer = tf.function(lambda images: tf.nn.softmax(network(images, training=False)), input_signature=[signature])
    # Not from_keras_model: it does not know the Keras 3 that TensorFlow ships. And not with the network as the object
    # to track: its weights would stay variables, which cannot be quantised.
    return tf.lite.TFLiteConverter.from_concrete_functions([answer.get_concrete_function()])


def _quantising(converter: tf.lite.TFLiteConverter, images: NDArray[np.uint8]) -> tf.lite.TFLiteConverter:
    def representative() -> Iterator[list[NDArray[np.float32]]]:
        for image in images[:: max(len(images) // CALIBRATION_IMAGES, 1)][:CALIBRATION_IMAGES]:
            yield [(image[None, ..., None] / np.float32(255)).astype(np.float32)]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter
