"""What training is given, what it tells while it runs, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from cloud.training.team import Team
from protos.v1.manifest_pb2 import GoldenVector, Lineage, Preprocessing, Variant, VariantOperators
from protos.v1.sketches_pb2 import Reference

FLOAT = "float32"
INT8 = "int8"

LARGEST_SEED = 2**31 // 1_000_003 - 1
"""So that the seeds of all replicas stay apart and within 32 bits."""

PLAIN = {"int8-plain": INT8, "float32-plain": FLOAT}
"""Variants that run another one's file by the interpreter's own kernels, without a delegate."""


class UnreadableDataset(ValueError):
    """The data cannot be read as images with labels; the message names the file and what is wrong with it."""


class QuantisationLoss(Exception):
    """The int8 model is so much worse than the float model that it must not be published."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to train. epochs: 0 for as many as the data needs. rate: the highest. seed: the same gives the same model.

    plain: whether the plain variants are published, too.
    """

    epochs: int = 0
    seed: int = 1
    batch: int = 64
    rate: float = 3e-3
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """Where training is. epoch: from 1. done: share of all steps. loss, accuracy: mean of this epoch up to here."""

    epoch: int
    epochs: int
    done: float
    loss: float
    accuracy: float


class Ending(IntEnum):
    """How a worker's process ended: its exit code. The Job decides by it whether another try makes sense."""

    DONE = 0
    """Trained, and the model is registered."""
    REFUSED = 65
    """The data, the model or its registration was refused: to repeat it changes nothing."""
    UNAVAILABLE = 69
    """Other workers or the API did not come in time: try again, some times."""
    FAILED = 70
    """What nobody foresaw: try again, some times."""
    PEER_LOST = 75
    """Another worker was lost or hangs, and nothing is wrong with this one: try again, from the checkpoint."""
    KILLED = 137
    """The training process was killed, perhaps since it took too much memory: try again, some times."""
    ASKED = 143
    """It was asked to end, by SIGTERM: try again elsewhere."""


class NoProgress(Exception):
    """A training that was cut off again and again before the end of an epoch."""


class Refused(Exception):
    """The cloud does not take this model, however often it is sent; the message says why."""


class Unavailable(Exception):
    """The cloud's API did not answer for a long time; the message says where it should be."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one worker is to do, together with the others of its team.

    run: names the training for all its workers and repetitions; it registers once. api: where. checkpoints: the folder,
    empty: there is none. epochs: 0 for as many as the data needs.
    """

    run: str
    model: str
    data: str
    api: str
    team: Team
    epochs: int = 0
    seed: int = 1
    checkpoints: str = ""

    @property
    def options(self) -> Options:
        """How to train."""
        return Options(epochs=self.epochs, seed=self.seed)


Progress = Callable[[Step], None]


class Say(Protocol):
    """Tells one thing."""

    def __call__(self, event: str, **facts: object) -> None:
        """`event` with what there is to know of it."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A judged model, ready to be published. files: TFLite; accuracy: share of held-out images right; by variant."""

    files: Mapping[str, bytes]
    variants: tuple[Variant, ...]
    accuracy: Mapping[str, float]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    golden: tuple[GoldenVector, ...]
    lineage: Lineage
    operators: tuple[VariantOperators, ...] = ()
    references: tuple[Reference, ...] = ()
