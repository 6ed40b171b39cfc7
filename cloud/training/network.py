"""The CNN, and how training varies its images. Needs TensorFlow."""

from __future__ import annotations

import keras
import tensorflow as tf

CHANNELS = (16, 32, 32, 64, 64)
HALVED_AT = (1, 2)  # by the stride of these convolutions: as good as pooling after them, at a third of the time

# Short trainings need running statistics that follow quickly.
BATCH_NORM_MOMENTUM = 0.9

ROTATION = 0.2  # radians
ZOOM = 0.12  # share
SHIFT = 2.5 / 28  # share of the side


def build(frame_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Five 3x3 convolutions with batch normalisation, global pooling, one dense layer.

    float32 (n, h, w, 1), 0 to 1, becomes logits (n, classes). Weights come from Keras' global random state.
    """
    layers = keras.layers
    values = images = layers.Input((*frame_shape, 1), name="images")
    # Named, since the names go into the file: it must not depend on what this process built before.
    for place, channels in enumerate(CHANNELS):
        strides = 2 if place in HALVED_AT else 1
        values = layers.Conv2D(
            channels, 3, strides=strides, padding="same", use_bias=False, name=f"convolution_{place}"
        )(values)
        values = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"normalisation_{place}")(values)
        values = layers.ReLU(name=f"rectification_{place}")(values)
    values = layers.GlobalAveragePooling2D(name="pooling")(values)
    return keras.Model(images, layers.Dense(classes, name="classes")(values), name="network")


def varied(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """float32 images (n, h, w, 1), each rotated, zoomed and shifted by its own chance.

    seed: int32 (2,); the same gives the same result.
    """
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    chance = tf.random.stateless_uniform([4, count], seed, -1.0, 1.0)
    zoom = 1 + ZOOM * chance[1]
    cosine, sine = tf.cos(ROTATION * chance[0]) * zoom, tf.sin(ROTATION * chance[0]) * zoom
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    shift_x = centre_x - cosine * centre_x + sine * centre_y + SHIFT * width * chance[2]
    shift_y = centre_y - sine * centre_x - cosine * centre_y + SHIFT * height * chance[3]
    nothing = tf.zeros_like(zoom)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([cosine, -sine, shift_x, sine, cosine, shift_y, nothing, nothing], axis=1),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def scaled(images: tf.Tensor) -> tf.Tensor:
    """uint8 pixels as float32, 0 to 1."""
    return tf.cast(images, tf.float32) * (1 / 255)
