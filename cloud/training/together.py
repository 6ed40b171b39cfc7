"""Several workers train one network, from the last checkpoint on. Needs TensorFlow.

All that differs between two workers is which part of each batch they learn from. Only the first one reads and writes
checkpoints; it tells the others where the training stands, so that the folder may be its own or shared, or gone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from cloud.training import rules
from cloud.training.checkpoints import Checkpoint, Checkpoints
from cloud.training.converter import convert
from cloud.training.datasets import Dataset
from cloud.training.entities import Order, Say, Step
from cloud.training.network import build
from cloud.training.trainer import Trainer

RING = tf.distribute.experimental.CommunicationImplementation.RING


class Together:
    """The training of `order` on `data`, ready to begin: returns when all workers are there.

    training: names all that determines the result; checkpoints of another one are not used.
    """

    def __init__(self, data: Dataset, order: Order, epochs: int, training: str) -> None:
        self._data, self._epochs, self._is_chief = data, epochs, order.team.is_chief
        folder = order.checkpoints if self._is_chief else ""
        self._checkpoints = Checkpoints(Path(folder), order.run, training) if folder else None
        steps = len(data.train_labels) // order.options.batch * epochs
        strategy = _strategy(len(order.team))
        self._trainer = Trainer(data, order.options, epochs, strategy, compiled=rules.compiling_pays(steps))

    def train(self, say: Say) -> int:
        """Train to the end, or what is left of it. Returns how often this training was gone on with."""
        done, restarts = self._resume()
        if restarts:
            say("resumed", epoch=done, restarts=restarts)
        last = Step(0, self._epochs, 0, 0, 0)

        def told(step: Step) -> None:
            nonlocal last
            last = step
            say("beat")

        for epoch in range(done, self._epochs):
            self._trainer.run_epoch(epoch, told)
            self._trainer.settle()
            self._save(epoch + 1, restarts)  # before it is told: who has heard of an epoch will not see it again
            say(
                "epoch",
                epoch=last.epoch,
                epochs=self._epochs,
                loss=round(last.loss, 6),
                accuracy=round(last.accuracy, 6),
            )
        return restarts

    def files(self) -> dict[str, bytes]:
        """The TFLite files by variant. The network is copied, so that no other worker takes part in it any more."""
        alone = build(self._data.frame_shape, self._data.classes)
        alone.set_weights([variable.numpy() for variable in self._trainer.network.variables])
        return convert(alone, self._data.train_images)

    def forget(self) -> None:
        """Remove the checkpoint."""
        if self._checkpoints:
            self._checkpoints.remove()

    def part(self) -> None:
        """Wait until all have come to this point."""
        self._trainer.from_first(np.zeros(1, np.int64))

    def _resume(self) -> tuple[int, int]:
        """Bring every worker to where the first one's checkpoint is: epochs done, and how often it was gone on from."""
        found = self._checkpoints.load() if self._checkpoints else None
        epochs, restarts, tries = (found.epochs, found.restarts + 1, found.tries + 1) if found else (0, 0, 0)
        rules.check_progress(epochs, tries)
        epochs, restarts = (int(number) for number in self._trainer.from_first(np.array([epochs, restarts], np.int64)))
        if restarts:
            mine = found.state if found else self._trainer.state()
            self._trainer.restore({name: self._trainer.from_first(value) for name, value in mine.items()})
        self._save(epochs, restarts, tries)  # a try that comes to no epoch's end is counted, too
        return epochs, restarts

    def _save(self, epochs: int, restarts: int, tries: int = 0) -> None:
        if self._checkpoints:
            self._checkpoints.save(Checkpoint(epochs, restarts, tries, self._trainer.state()))


def _strategy(workers: int) -> tf.distribute.Strategy | None:
    """One for the team in TF_CONFIG, which waits until all are there; none for one worker alone."""
    if workers == 1:
        return None
    # By ring, whose sums have one order: NCCL and the automatic choice promise none.
    options = tf.distribute.experimental.CommunicationOptions(implementation=RING)
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
