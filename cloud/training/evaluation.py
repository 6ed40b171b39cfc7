"""Judges a TFLite file on held-out images with the code that will run it on the devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.training.rules import GOLDEN_FRAMES, choose_golden, margins
from edge.inference.engine import Engine, tensor_specs
from edge.inference.golden import expected
from protos.kit.sketches import Tally, channels_of
from protos.v1.manifest_pb2 import DELEGATE_DEFAULT, DELEGATE_NONE, GoldenVector, Preprocessing, Variant
from protos.v1.sketches_pb2 import Reference

# What a golden output may differ by between processors: kernels round differently, by a step in each layer.
TOLERANCE_STEPS = 8.0
TOLERANCE_FLOAT = 1e-3

LOOKED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one variant answered. outputs: (n, classes) as the file gives them. scores: the same as float32, 0 to 1."""

    variant: Variant
    accuracy: float
    outputs: NDArray[np.generic]
    scores: NDArray[np.float32]


def preprocessing(frame_shape: tuple[int, ...]) -> Preprocessing:
    """Pixels to 0..1, as in training."""
    return Preprocessing(frame_shape=frame_shape, scale=1 / 255)


def judge(
    name: str,
    model: bytes,
    images: NDArray[np.generic],
    labels: NDArray[np.integer],
    threads: int = 1,
    *,
    steps: Preprocessing | None = None,
    plain: bool = False,
) -> Judgement:
    """Run `model` as variant `name` over raw frames (n, ...) with labels (n,). Raises BadModel.

    steps: what becomes of a frame before; without it pixels only become 0..1, as in training. plain: run by the
    interpreter's own kernels.
    """
    input_spec, output_spec = tensor_specs(model)
    delegate = DELEGATE_NONE if plain else DELEGATE_DEFAULT
    variant = Variant(name=name, input=input_spec, output=output_spec, delegate=delegate)
    engine = Engine(model, variant, steps or preprocessing(images.shape[1:]), threads)
    outputs = engine.raw(images)
    scores = outputs.astype(np.float32)
    if output_spec.scale:
        scores = (scores - output_spec.zero_point) * np.float32(output_spec.scale)
    variant.accuracy = float((outputs.argmax(axis=1) == labels).mean())
    return Judgement(variant, variant.accuracy, outputs, scores)


def golden_vectors(
    judgements: Mapping[str, Judgement], images: NDArray[np.generic], count: int = GOLDEN_FRAMES
) -> tuple[GoldenVector, ...]:
    """`count` of the judged images, with what each variant answered to them. The variants agree on each."""
    answers = np.stack([judgement.scores.argmax(axis=1) for judgement in judgements.values()])
    margin = np.min([margins(judgement.scores) for judgement in judgements.values()], axis=0)
    agreed = np.flatnonzero((answers == answers[0]).all(axis=0))
    chosen = agreed[choose_golden(answers[0][agreed], margin[agreed], count)]
    return tuple(_golden(judgements, images, int(index)) for index in chosen)


def reference(judgement: Judgement, images: NDArray[np.generic]) -> Reference:
    """What a variant answered to the judged images, and what these are like: what devices compare their frames with."""
    tally = Tally(judgement.scores.shape[1], channels_of(images.shape[1:]))
    labels = judgement.outputs.argmax(axis=1)
    confidences = np.take_along_axis(judgement.scores, labels[:, None], axis=1)[:, 0]
    tally.add(labels.astype(np.uint16), confidences)
    looked_at = len(images) if images.dtype == np.uint8 else 0
    for start in range(0, looked_at, LOOKED_AT_ONCE):
        some = images[start : start + LOOKED_AT_ONCE]
        tally.look(some.reshape(len(some), -1).view(np.uint8))
    return Reference(variant=judgement.variant.name, sketch=tally.sketch())


def _golden(judgements: Mapping[str, Judgement], images: NDArray[np.generic], index: int) -> GoldenVector:
    expectations = [
        expected(name, judgement.outputs[index], TOLERANCE_STEPS if judgement.variant.output.scale else TOLERANCE_FLOAT)
        for name, judgement in judgements.items()
    ]
    return GoldenVector(frame=images[index].tobytes(), expected=expectations)
