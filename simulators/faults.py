"""Faults to try a fleet with: a model whose file was damaged after its golden vectors were recorded.

Everything about it is in order but what it answers: signatures, digests and file format are valid, so that only running
the golden vectors on the device can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from cloud.registry.entities import ModelVersion
from cloud.registry.service import Registry
from edge.inference.engine import BadModel, Engine
from edge.inference.golden import golden_frames
from edge.inference.shapes import frame_dtype
from protos.v1.manifest_pb2 import GoldenVector, Manifest, Variant
from simulators.reel import HeldOut

METRICS = {"int8": "accuracy_int8", "float32": "accuracy_float"}
"""Where a manifest says how often each variant is right."""

FIRST_SHARE = 0.01  # of the largest weight buffer; doubled until the answers are wrong
ATTEMPTS = 30


class NotDamaged(Exception):
    """No damage made the model answer wrongly: its golden vectors hardly depend on its weights."""


def damage(model: bytes, wrong: Callable[[bytes], bool], seed: int) -> bytes:
    """`model` with so many of its weights overwritten that `wrong` says its answers are wrong; same input, same output.

    Raises NotDamaged.
    """
    for attempt in range(ATTEMPTS):
        share = min(1.0, FIRST_SHARE * 2**attempt)
        damaged = _overwritten(model, share, np.random.default_rng([seed, attempt]))
        if wrong(damaged):
            return damaged
    raise NotDamaged("the golden vectors come out right whatever the weights are")


def bad_version(
    good: Manifest, files: Mapping[str, bytes], digits: HeldOut, seed: int
) -> tuple[Manifest, dict[str, bytes]]:
    """A draft like `good` but with damaged `files` (by variant), and those files.

    The golden vectors are the old ones; the accuracies are those of the damaged files, without a floor. Raises
    NotDamaged.
    """
    draft = Manifest()
    draft.CopyFrom(good)
    draft.lineage.parameters["damaged_with_seed"] = str(seed)
    metrics = {metric.name: metric for metric in draft.metrics}
    draft.ClearField("accuracy_floor")
    damaged = {}
    for place, variant in enumerate(good.variants):
        model = damage(files[variant.name], partial(answers_wrongly, variant=variant, manifest=good), seed)
        damaged[variant.name] = model
        answers = Engine(model, variant, good.preprocessing).classify(digits.images)
        draft.variants[place].accuracy = float((answers.label == digits.labels).mean())
        if variant.name in METRICS:
            metrics[METRICS[variant.name]].value = draft.variants[place].accuracy
    return draft, damaged


def register_bad(registry: Registry, model: str, digits: HeldOut, seed: int, now_ms: int) -> ModelVersion:
    """Register a damaged copy of the newest version of `model`. Raises UnknownModel, NotDamaged."""
    good = registry.latest(model).parsed()
    files = {variant.name: registry.file(variant.artifact.digest) for variant in good.variants}
    draft, damaged = bad_version(good, files, digits, seed)
    return registry.register(draft, damaged, now_ms)


def answers_wrongly(model: bytes, variant: Variant, manifest: Manifest) -> bool:
    """Whether `model` still loads and runs as `variant`, but takes most golden frames for another class."""
    preprocessing = manifest.preprocessing
    frames = golden_frames(manifest.golden, preprocessing.frame_shape, frame_dtype(preprocessing))
    try:
        classes = Engine(model, variant, preprocessing).classify(frames).label
    except BadModel:
        return False
    right = [_class(vector, variant) for vector in manifest.golden]
    return int((classes != right).sum()) * 2 > len(right)


def _class(vector: GoldenVector, variant: Variant) -> int:
    output = next(expected.output for expected in vector.expected if expected.variant == variant.name)
    return int(np.frombuffer(output, np.dtype(variant.output.dtype).newbyteorder("<")).argmax())


def _overwritten(model: bytes, share: float, randomness: np.random.Generator) -> bytes:
    damaged = bytearray(model)
    weights = _largest_buffer(damaged)
    places = randomness.choice(len(weights), max(1, int(len(weights) * share)), replace=False)
    weights[places] = randomness.integers(0, 256, len(places), np.uint8)
    return bytes(damaged)


def _largest_buffer(model: bytearray) -> NDArray[np.uint8]:
    """The weights that are most of a TFLite file: a view, so that writing to it changes `model`."""
    parsed = schema.Model.GetRootAs(model)
    buffers = [parsed.Buffers(index).DataAsNumpy() for index in range(parsed.BuffersLength())]
    return max((buffer for buffer in buffers if isinstance(buffer, np.ndarray)), key=len)
