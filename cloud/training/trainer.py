"""The training loop: many steps in one graph call, the data and its variation in memory. Needs TensorFlow.

A step takes its share of the batch by its replica's number and its loss is a share of the whole batch's, so the same
step is right under any `tf.distribute` strategy.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cloud.training import rules
from cloud.training.datasets import Dataset
from cloud.training.entities import Options, Progress, Step
from cloud.training.network import build, scaled, varied

# Long enough that calling costs nothing, short enough that progress moves and Ctrl-C is heard.
STEPS_A_CALL = 32

WARM_UP = 1 / 8  # share of the steps in which the rate rises, from a tenth of its highest; it falls along a cosine


class Trainer:
    """One training of one network on `data`, for `epochs` with the rest of `options`.

    compiled: by XLA, where there is one replica; every step is faster, the first comes some seconds later.
    Sets Keras' global random state: the same seed gives the same network again.
    """

    def __init__(
        self,
        data: Dataset,
        options: Options,
        epochs: int,
        strategy: tf.distribute.Strategy | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        self._options, self._epochs = options, epochs
        self._strategy = strategy or tf.distribute.get_strategy()
        self._batch = whole_batch(options.batch, len(data.train_labels), self._strategy.num_replicas_in_sync)
        self.steps = len(data.train_labels) // self._batch  # an epoch's; images beyond them wait for the next shuffle
        self._images = tf.constant(data.train_images[..., None])
        self._labels = tf.constant(data.train_labels.astype(np.int32))
        keras.utils.set_random_seed(options.seed)
        with self._strategy.scope():
            self.network = build(data.frame_shape, data.classes)
            self._optimizer = keras.optimizers.Adam(learning_rate(options.rate, self.steps * epochs))
            self._optimizer.build(self.network.trainable_variables)
        # Replicas exchange gradients in the middle of it, which XLA cannot compile.
        alone = self._strategy.num_replicas_in_sync == 1
        self._learn_fast = tf.function(self._learn, jit_compile=True) if compiled and alone else self._learn
        signature = [tf.TensorSpec([None, self._batch], tf.int32), tf.TensorSpec([], tf.int32)]
        self._many_steps = tf.function(self._run, input_signature=signature)

    def run(self, progress: Progress) -> keras.Model:
        """Train to the end; `progress` is told every few steps. Returns the network."""
        for epoch in range(self._epochs):
            self.run_epoch(epoch, progress)
        return self.network

    def run_epoch(self, epoch: int, progress: Progress) -> None:
        """Every image once, in the order of this epoch (from 0)."""
        order = rules.epoch_order(self._options.seed, epoch, len(self._labels), self.steps, self._batch)
        totals = np.zeros(2)
        for start in range(0, self.steps, STEPS_A_CALL):
            part = order[start : start + STEPS_A_CALL]
            totals += self._many_steps(part, epoch * self.steps + start).numpy()
            seen = start + len(part)
            done = (epoch * self.steps + seen) / (self.steps * self._epochs)
            progress(Step(epoch + 1, self._epochs, done, *(float(total) / seen for total in totals)))

    def settle(self) -> None:
        """Give every replica the mean of their running statistics, of which each has those of its own images."""
        for variable in self.network.non_trainable_variables if self._strategy.num_replicas_in_sync > 1 else ():
            of_replicas = self._strategy.run(lambda value=variable.value: tf.identity(value))
            variable.assign(self._strategy.reduce(tf.distribute.ReduceOp.MEAN, of_replicas, axis=None))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """What later epochs depend on besides data and options, by name; settled, it is the same on each replica."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from what `state` returned. Raises ValueError if it is another network's."""
        variables = self._variables()
        if {name: value.shape for name, value in state.items()} != {
            name: tuple(variable.shape) for name, variable in variables.items()
        }:
            raise ValueError("the state is that of another network or optimizer")
        for name, variable in variables.items():
            variable.assign(state[name])

    def from_first(self, value: NDArray[np.generic]) -> NDArray[np.generic]:
        """What the first replica calls `value`: all of them call this at once, with arrays of one shape and type."""
        if self._strategy.num_replicas_in_sync == 1:
            return value

        def mine() -> tf.Tensor:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return tf.where(tf.equal(replica, 0), tf.constant(value), tf.zeros_like(value))

        summed: NDArray[np.generic] = self._strategy.reduce(
            tf.distribute.ReduceOp.SUM, self._strategy.run(mine), axis=None
        ).numpy()
        return summed

    def _variables(self) -> dict[str, keras.Variable]:
        of_network = {f"network/{variable.path}": variable for variable in self.network.variables}
        return of_network | {f"optimizer/{variable.path}": variable for variable in self._optimizer.variables}

    def _run(self, order: tf.Tensor, first_step: tf.Tensor) -> tf.Tensor:
        """A step for each row of `order`. Returns the sums of the steps' loss and accuracy, (2,)."""
        totals = tf.zeros([2])
        for place in tf.range(tf.shape(order)[0]):
            of_replicas = self._strategy.run(self._step, args=(order[place], first_step + place))
            totals += self._strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas, axis=None)
        return totals

    def _step(self, chosen: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        first, end = rules.share_of(replica, self._batch, self._strategy.num_replicas_in_sync)
        mine = chosen[first:end]
        images = scaled(tf.gather(self._images, mine))
        images = varied(images, tf.stack([self._options.seed * 1_000_003 + replica, number]))
        return self._learn_fast(images, tf.gather(self._labels, mine))

    def _learn(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """One step of the optimizer. Returns loss and accuracy as shares of the whole batch's, (2,)."""
        with tf.GradientTape() as tape:
            logits = self.network(images, training=True)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)) / self._batch
        variables = self.network.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        right = tf.reduce_sum(tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.float32)) / self._batch
        return tf.stack([loss, right])


def whole_batch(wanted: int, images: int, replicas: int) -> int:
    """The batch size: what is wanted, at most all images, and the same for each replica."""
    return max(min(wanted, images) // replicas, 1) * replicas


def learning_rate(highest: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Up to `highest` in a straight line, then down to nothing along a cosine (Loshchilov & Hutter, SGDR)."""
    warm_up = int(steps * WARM_UP)
    return keras.optimizers.schedules.CosineDecay(
        highest / 10, max(steps - warm_up, 1), warmup_target=highest, warmup_steps=warm_up
    )
