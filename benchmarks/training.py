"""Our training loop against plain Keras `fit`: images a second.

Both train the same network from the same seed, with the same optimizer and learning rate, on the same images in batches
of the same size, and both follow loss and accuracy. Both vary each image by the same TensorFlow operations on whole
batches. Ours runs many steps in one graph call with the data in memory, compiled by XLA when the training is long
enough to pay for it, as `littoral train` does; the baseline is `compile` and `fit` with
nothing set, fed by a `tf.data` pipeline as the guides advise it: from memory, shuffled, batched, mapped in parallel,
prefetched.

One process, in turn, epoch by epoch, so that what else the machine does meets both. `images_per_second` leaves out each
side's first epoch, which builds its graph; `first_epoch_seconds` is that epoch. `processor_us_per_image` is the time on
all cores together, which other programs on the machine disturb least. Data: MNIST from `LITTORAL_MNIST` or
../shared/data/mnist, else the embedded digits.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from benchmarks.kit.measures import Measure, Measures
from cloud.training.datasets import EMBEDDED, Dataset, load
from cloud.training.entities import Options, Step
from cloud.training.network import build, scaled, varied
from cloud.training.rules import compiling_pays
from cloud.training.trainer import Trainer, learning_rate

MNIST = Path(os.environ.get("LITTORAL_MNIST", "../shared/data/mnist"))
IMAGES_A_SIDE = 70_000
OPTIONS = Options()
THREADS = os.cpu_count() or 1


def run() -> Measures:
    """Train both, epoch by epoch in turn."""
    data = load(MNIST if MNIST.is_dir() else EMBEDDED)
    images = len(data.train_labels) // OPTIONS.batch * OPTIONS.batch
    epochs = max(IMAGES_A_SIDE // images, 3)
    print(f"data: {data.name}, {images} images an epoch, {epochs} epochs after the first, batches of {OPTIONS.batch}")
    sides = {"ours": ours(data, epochs + 1), "keras": plain_keras(data, epochs + 1)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    for epoch in range(epochs + 1):
        # The order changes, so that neither always follows the other.
        for name in sorted(sides, reverse=epoch % 2 == 0):
            _timed(sides[name], epoch, seconds[name], processor[name])
        print(f"epoch {epoch}: ours {seconds['ours'][-1]:.2f} s, Keras {seconds['keras'][-1]:.2f} s")
    rate = {name: images / statistics.median(later) for name, (_, *later) in seconds.items()}
    cost = {name: statistics.median(later) / images * 1e6 for name, (_, *later) in processor.items()}
    return {
        "images_per_second": Measure(rate["ours"], "images/s", rate["keras"], ">= 1.0"),
        "processor_us_per_image": Measure(cost["ours"], "µs", cost["keras"]),
        "first_epoch_seconds": Measure(seconds["ours"][0], "s", seconds["keras"][0]),
    }


def ours(data: Dataset, epochs: int) -> Callable[[int], None]:
    """An epoch of our trainer, by its number."""
    steps = len(data.train_labels) // OPTIONS.batch * epochs
    trainer = Trainer(data, OPTIONS, epochs, compiled=compiling_pays(steps))
    return lambda epoch: trainer.run_epoch(epoch, _unseen)


def plain_keras(data: Dataset, epochs: int) -> Callable[[int], None]:
    """An epoch of `fit`, by its number."""
    keras.utils.set_random_seed(OPTIONS.seed)
    network = build(data.frame_shape, data.classes)
    steps = len(data.train_labels) // OPTIONS.batch
    network.compile(
        keras.optimizers.Adam(learning_rate(OPTIONS.rate, steps * epochs)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    # Autotuning would slow the baseline down: TensorFlow 2.21 ends an epoch only when the tuner's thread next wakes,
    # 10 ms * (2^n - 1) after the epoch began, so 5 s of work take 10.2 s.
    fixed = tf.data.Options()
    fixed.autotune.enabled = False
    pipeline = (
        tf.data.Dataset.from_tensor_slices((data.train_images[..., None], data.train_labels.astype("int32")))
        .shuffle(len(data.train_labels))
        .batch(OPTIONS.batch, drop_remainder=True)
        .map(lambda images, labels: (_varied_by_chance(images), labels), num_parallel_calls=THREADS)
        .prefetch(THREADS)
        .with_options(fixed)
    )
    return lambda epoch: _fit(network, pipeline, epoch)


def _fit(network: keras.Model, pipeline: tf.data.Dataset, epoch: int) -> None:
    network.fit(pipeline, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0)  # the pipeline shuffles


def _varied_by_chance(images: tf.Tensor) -> tf.Tensor:
    return varied(scaled(images), tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32))


def _timed(epoch_of: Callable[[int], None], epoch: int, seconds: list[float], processor: list[float]) -> None:
    started, worked = time.perf_counter(), time.process_time()
    epoch_of(epoch)
    seconds.append(time.perf_counter() - started)
    processor.append(time.process_time() - worked)


def _unseen(_: Step) -> None:
    """Progress costs our side its numbers; that nobody looks at them saves the baseline nothing."""
