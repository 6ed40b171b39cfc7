"""What training is given, what it tells while it runs, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protos.v1.manifest_pb2 import GoldenVector, Lineage, Preprocessing, Variant, VariantOperators
from protos.v1.sketches_pb2 import Reference

FLOAT = "float32"
INT8 = "int8"
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


Progress = Callable[[Step], None]


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
