"""Train, quantise, judge, publish."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from cloud.registry.entities import ModelVersion
from cloud.training import operators, rules
from cloud.training.datasets import Dataset
from cloud.training.entities import FLOAT, INT8, PLAIN, Options, Progress, TrainedModel
from cloud.training.evaluation import Judgement, golden_vectors, judge, preprocessing, reference
from protos.v1.manifest_pb2 import Lineage, Manifest, Metric, Requirements

VARIANTS = (INT8, FLOAT)
"""In the order of the manifest."""

METRICS = {FLOAT: "accuracy_float", INT8: "accuracy_int8"}


class Registers(Protocol):
    """Where versions are registered. Where many train, that is elsewhere: no database is needed to train."""

    def register(self, draft: Manifest, files: Mapping[str, bytes], now_ms: int) -> ModelVersion:
        """Make `draft` the next version of its model. Raises Unpublishable."""


def train(dataset: Dataset, options: Options, code_version: str, progress: Progress) -> TrainedModel:
    """A model trained on `dataset` and judged on its held-out images.

    `progress` is told every few steps. Raises QuantisationLoss, and BadModel if the result cannot be run.
    """
    from cloud.training.converter import convert  # noqa: PLC0415 - TensorFlow is slow to import
    from cloud.training.trainer import Trainer  # noqa: PLC0415

    epochs = options.epochs or rules.default_epochs(len(dataset.train_labels))
    steps = len(dataset.train_labels) // options.batch * epochs
    network = Trainer(dataset, options, epochs, compiled=rules.compiling_pays(steps)).run(progress)
    files = variants(convert(network, dataset.train_images), plain=options.plain)
    return judged(dataset, files, lineage(dataset, options, epochs, code_version))


def variants(files: Mapping[str, bytes], *, plain: bool) -> dict[str, bytes]:
    """The converter's files by variant, with `plain` those without a delegate, too."""
    return {**files, **({name: files[of] for name, of in PLAIN.items()} if plain else {})}


def judged(dataset: Dataset, files: Mapping[str, bytes], origin: Lineage) -> TrainedModel:
    """TFLite `files` by variant as a model that may be published. Raises QuantisationLoss or BadModel.

    Those of VARIANTS must be there, plain ones may.
    """
    threads = os.cpu_count() or 1
    judgements: dict[str, Judgement] = {
        name: judge(name, files[name], dataset.test_images, dataset.test_labels, threads, plain=name in PLAIN)
        for name in (*VARIANTS, *PLAIN)
        if name in files
    }
    rules.check_quantisation(judgements[FLOAT].accuracy, judgements[INT8].accuracy)
    return TrainedModel(
        files=dict(files),
        variants=tuple(judgement.variant for judgement in judgements.values()),
        accuracy={name: judgement.accuracy for name, judgement in judgements.items()},
        preprocessing=preprocessing(dataset.frame_shape),
        labels=tuple(str(label) for label in range(dataset.classes)),
        golden=golden_vectors(judgements, dataset.test_images),
        lineage=origin,
        operators=tuple(operators.of_variants(files)),
        references=tuple(reference(judgement, dataset.test_images) for judgement in judgements.values()),
    )


def publish(
    trained: TrainedModel, registry: Registers, model: str, now_ms: int, requires: Requirements | None = None
) -> ModelVersion:
    """Register `trained` as the next version of `model`. Raises Unpublishable."""
    return registry.register(draft(trained, model, requires), trained.files, now_ms)


def draft(trained: TrainedModel, model: str, requires: Requirements | None = None) -> Manifest:
    """The manifest of `trained`, but for what the registry fills in: version, time and artifacts.

    requires: what a device must have besides the operators of the files.
    """
    requirements = Requirements(operators=trained.operators)
    requirements.MergeFrom(requires or Requirements())
    return Manifest(
        model=model,
        variants=trained.variants,
        preprocessing=trained.preprocessing,
        labels=trained.labels,
        metrics=[
            Metric(name=METRICS[name], value=trained.accuracy[name]) for name in METRICS if name in trained.accuracy
        ],
        golden=trained.golden,
        references=trained.references,
        accuracy_floor=rules.accuracy_floor(trained.accuracy.values()),
        lineage=trained.lineage,
        requirements=requirements,
    )


def lineage(dataset: Dataset, options: Options, epochs: int, code_version: str, workers: int = 1) -> Lineage:
    """Where the model comes from. The run is named by all that determines the result: to repeat it is the same run.

    workers: how many trained together; each normalises its own share of a batch, so the number is part of the result.
    """
    parameters = {
        "batch": str(options.batch),
        "epochs": str(epochs),
        "rate": f"{options.rate:g}",
        "seed": str(options.seed),
        **({"workers": str(workers)} if workers > 1 else {}),
    }
    determining = repr((dataset.digest.hex(), code_version, sorted(parameters.items())))
    return Lineage(
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        code_version=code_version,
        training_run=hashlib.sha256(determining.encode()).hexdigest()[:16],
        parameters=parameters,
    )


def code_version() -> str:
    """This code's, as a model's lineage names it."""
    try:
        return version("littoral")
    except PackageNotFoundError:
        return "unknown"
