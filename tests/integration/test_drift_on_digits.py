"""Drift on real digits: a trained model, its reference of held-out data, and frames that are like it or are not."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cloud.training import datasets, service
from cloud.training.entities import INT8, Options
from edge.drift.entities import Limits as DriftLimits
from edge.drift.service import DriftWatch
from edge.inference.entities import Blueprint, FrameRun, Limits
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.kit import sketches
from protos.v1.sketches_pb2 import Drift, Reference
from protos.v1.uplink_pb2 import UplinkMessage
from tests import in_thread

pytestmark = pytest.mark.timeout(300)
MNIST = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mnist"
BATCH = 100


@dataclass(frozen=True)
class Subject:
    """A model as a device runs it, and held-out digits that are not in its reference."""

    blueprint: Blueprint
    images: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    if not MNIST.is_dir():
        warnings.warn(f"{MNIST} is missing: the embedded digits stand in for MNIST", stacklevel=1)
    data = datasets.load(MNIST if MNIST.is_dir() else "digits")
    order = np.random.default_rng(1).permutation(len(data.test_labels))
    known, new = np.array_split(order, 2)
    split = datasets.dataset(
        "split", (data.train_images, data.train_labels), (data.test_images[known], data.test_labels[known])
    )
    trained = service.train(split, Options(epochs=2 if MNIST.is_dir() else 6), "test", lambda _: None)
    file = tmp_path_factory.mktemp("model") / "model.tflite"
    file.write_bytes(trained.files[INT8])
    variant = next(variant for variant in trained.variants if variant.name == INT8)
    reference = next(found for found in trained.references if found.variant == INT8)
    blueprint = Blueprint(file, variant, trained.preprocessing, 1, bytes(32), "digits", 1, reference)
    return Subject(blueprint, data.test_images[new], data.test_labels[new])


def window(subject: Subject, images: np.ndarray, folder: Path) -> tuple[Drift, tuple[str, ...]]:
    """The frames through the device's own inference: the window that is sent, and the alarms that are raised."""

    async def main() -> tuple[Drift, tuple[str, ...]]:
        told: asyncio.Queue[Drift] = asyncio.Queue()

        def offer(message: UplinkMessage) -> None:
            told.put_nowait(message.drift)

        watch = DriftWatch("default", DriftLimits(window_s=0.2), offer)
        inference = Inference(Outbox.open(folder / "outbox.db", 1 << 30), Limits(batch_frames=BATCH), in_thread.start)
        inference.on_answered(watch.take)
        await inference.use(subject.blueprint)
        running = [asyncio.create_task(inference.run())]
        async with inference.intake("cam") as intake:
            for first in range(0, len(images), BATCH):
                some = images[first : first + BATCH]
                pixels = some.reshape(len(some), -1)
                await inference.hand_over(intake, FrameRun(first + 1, pixels, np.zeros(len(some), np.int64), 0))
            async for reply in intake.replies():
                if reply.watermark == len(images):
                    break
        running.append(asyncio.create_task(watch.run()))
        drift = await told.get()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return drift, watch.alarms

    return asyncio.run(main())


def test_the_reference_has_all_held_out_digits(subject: Subject) -> None:
    reference: Reference = subject.blueprint.reference
    sketches.check(reference.sketch)
    assert reference.sketch.frames == reference.sketch.looked_at > 0
    assert len(reference.sketch.labels) == 10
    assert min(reference.sketch.labels) > 0


def test_held_out_digits_raise_no_alarm(subject: Subject, tmp_path: Path) -> None:
    drift, alarms = window(subject, subject.images, tmp_path)
    assert drift.sketch.frames == len(subject.images)
    assert (drift.alarm, alarms) == ("", ())


def test_inverted_digits_raise_an_alarm(subject: Subject, tmp_path: Path) -> None:
    drift, alarms = window(subject, 255 - subject.images, tmp_path)
    assert "pixels shifted" in drift.alarm
    assert "labels differ" in drift.alarm  # a model may be sure of what it has never seen
    assert len(alarms) == 1


def test_noisy_digits_raise_an_alarm(subject: Subject, tmp_path: Path) -> None:
    noise = np.random.default_rng(2).normal(0, 80, subject.images.shape)
    noisy = np.clip(subject.images + noise, 0, 255).astype(np.uint8)
    drift, alarms = window(subject, noisy, tmp_path)
    assert "differ (PSI" in drift.alarm
    assert len(alarms) == 1


def test_digits_of_a_few_classes_raise_an_alarm(subject: Subject, tmp_path: Path) -> None:
    few = subject.images[subject.labels <= 2]
    few = np.concatenate([few] * -(-600 // len(few)))
    drift, alarms = window(subject, few, tmp_path)
    assert "labels differ" in drift.alarm
    assert len(alarms) == 1
