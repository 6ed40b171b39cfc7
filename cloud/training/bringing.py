"""A model that was trained elsewhere: its TFLite files, judged on held-out frames with the code of the devices."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from cloud.registry.entities import Unpublishable
from cloud.training import operators, rules
from cloud.training.entities import FLOAT, INT8, TrainedModel, UnreadableDataset
from cloud.training.evaluation import golden_vectors, judge, preprocessing
from edge.inference.engine import BadModel
from protos.v1.manifest_pb2 import Lineage, Preprocessing

GOLDEN_BYTES = 48 * 1024
"""Frames of golden vectors take so much of a manifest, which is one message."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Raw frames (n, ...) with their classes (n,), which no training has seen. name: of the file."""

    name: str
    frames: NDArray[np.generic]
    classes: NDArray[np.integer]

    @property
    def digest(self) -> bytes:
        """SHA-256 over both."""
        return hashlib.sha256(self.frames.tobytes() + self.classes.astype("<i8").tobytes()).digest()


def held_out(path: Path) -> HeldOut:
    """From a NumPy .npz file with the arrays `frames` and `labels`. Raises UnreadableDataset."""
    wanted = "an .npz file with the arrays frames (n, ...) and labels (n,), whole numbers from 0"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            frames, classes = arrays["frames"], arrays["labels"]
    except (OSError, KeyError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UnreadableDataset(f"{path} is not {wanted}: {error}") from error
    if classes.dtype.kind not in "iu" or classes.shape != frames.shape[:1] or not len(classes) or classes.min() < 0:
        raise UnreadableDataset(f"{path} is not {wanted}: frames are {frames.shape}, labels {classes.shape}")
    return HeldOut(path.name, frames, classes)


def steps_from(text: str, frames: NDArray[np.generic]) -> Preprocessing:
    """Preprocessing by its JSON; shape and dtype, where it names none, are those of `frames`. Raises Unpublishable."""
    steps = Preprocessing()
    try:
        json_format.Parse(text, steps)
    except json_format.ParseError as error:
        raise Unpublishable(
            f"the steps are not the JSON of Preprocessing in protos/v1/manifest.proto: {error}"
        ) from error
    if not steps.frame_shape:
        steps.frame_shape.extend(frames.shape[1:])
    if not steps.dtype:
        steps.dtype = frames.dtype.name
    if not steps.scale:
        steps.scale = 1
    return steps


def brought(
    files: Mapping[str, bytes], data: HeldOut, steps: Preprocessing | None, labels: Sequence[str], origin: Lineage
) -> TrainedModel:
    """TFLite `files` by variant as a model that may be published. labels: names of the classes; none: their numbers.

    Raises QuantisationLoss, or Unpublishable for a file that is no model for these frames.
    """
    threads = os.cpu_count() or 1
    steps = steps or preprocessing(data.frames.shape[1:])
    try:
        judgements = {
            name: judge(name, model, data.frames, data.classes, threads, steps=steps) for name, model in files.items()
        }
    except (BadModel, ValueError) as error:
        raise Unpublishable(str(error)) from error
    accuracy = {name: judgement.accuracy for name, judgement in judgements.items()}
    if accuracy.keys() >= {FLOAT, INT8}:
        rules.check_quantisation(accuracy[FLOAT], accuracy[INT8])
    classes = min(judgement.outputs.shape[1] for judgement in judgements.values())
    if labels and len(labels) != classes:
        raise Unpublishable(f"{len(labels)} labels are named, the model has {classes} classes")
    count = max(1, min(rules.GOLDEN_FRAMES, GOLDEN_BYTES // data.frames[0].nbytes))
    return TrainedModel(
        files=dict(files),
        variants=tuple(judgement.variant for judgement in judgements.values()),
        accuracy=accuracy,
        preprocessing=steps,
        labels=tuple(labels) or tuple(map(str, range(classes))),
        golden=golden_vectors(judgements, data.frames, count),
        lineage=origin,
        operators=tuple(operators.of_variants(files)),
    )
