"""The watch for drift: windows of results beside the model's reference, sent as sketches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.drift import rules
from edge.drift.entities import Limits
from edge.drift.service import DriftWatch
from edge.inference.entities import Answered, Blueprint, FrameRun, MicroBatch, Outcome
from protos.kit import columns, sketches
from protos.kit.columns import Results
from protos.kit.sketches import Tally
from protos.v1.manifest_pb2 import Preprocessing, Variant
from protos.v1.sketches_pb2 import Drift, Reference
from protos.v1.uplink_pb2 import UplinkMessage

CLASSES = 4
SIDE = 4
COUNT = 1000
DIGEST, OTHER = b"\1" * 32, b"\2" * 32

Scene = Callable[[DriftWatch, list[Drift]], Awaitable[None]]


def answers(seed: int, shares: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels by these shares, confidences, and frames about as bright as each other."""
    random = np.random.default_rng(seed)
    labels = random.choice(CLASSES, COUNT, p=shares).astype(np.uint16)
    confidences = (1 - random.beta(1, 30, COUNT)).astype(np.float32)
    return labels, confidences, random.normal(100, 20, (COUNT, SIDE * SIDE)).clip(0, 255).astype(np.uint8)


def blueprint(manifest: bytes = DIGEST, *, known: bool = True) -> Blueprint:
    reference = Reference()
    if known:
        labels, confidences, pixels = answers(1, [0.25] * CLASSES)
        tally = Tally(CLASSES, 1)
        tally.add(labels, confidences)
        tally.look(pixels)
        reference = Reference(variant="int8", sketch=tally.sketch())
    shape = Preprocessing(frame_shape=[SIDE, SIDE])
    return Blueprint(Path("none"), Variant(name="int8"), shape, 1, manifest, "digits", 3, reference)


def answered(of: Blueprint, seed: int = 2, shares: list[float] | None = None, brighter: int = 0) -> Answered:
    labels, confidences, pixels = answers(seed, shares or [0.25] * CLASSES)
    numbers = np.arange(1, COUNT + 1)
    results = Results(
        of.model, of.version, of.manifest, "cam", numbers.astype(np.uint64), numbers, labels, confidences,
        np.zeros(COUNT, np.uint32),
    )  # fmt: skip
    run = FrameRun(1, np.minimum(pixels, 255 - brighter) + np.uint8(brighter), numbers, 0)
    return Answered(MicroBatch("cam", (run,)), Outcome(columns.encode(results)), of)


def watched(scene: Scene, window_s: float = 0.01) -> None:
    async def main() -> None:
        told: list[Drift] = []

        def offer(message: UplinkMessage) -> None:
            told.append(message.drift)

        watch = DriftWatch("default", Limits(window_s), offer)
        running = asyncio.create_task(watch.run())
        try:
            await scene(watch, told)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - the state is polled as a person would look at it
        await asyncio.sleep(0.005)


def test_results_like_the_references_are_told_without_an_alarm() -> None:
    async def scene(watch: DriftWatch, told: list[Drift]) -> None:
        watch.take(answered(blueprint()))
        await until(lambda: told)
        (drift,) = told
        assert (drift.slot, drift.model, drift.version, drift.manifest) == ("default", "digits", 3, DIGEST)
        assert (drift.sketch.frames, drift.sketch.looked_at, drift.alarm) == (COUNT, rules.LOOKED_AT, "")
        assert drift.began_ms <= drift.ended_ms
        sketches.check(drift.sketch)
        assert watch.alarms == ()

    watched(scene)


def test_other_labels_are_an_alarm_until_they_are_as_before() -> None:
    async def scene(watch: DriftWatch, told: list[Drift]) -> None:
        watch.take(answered(blueprint(), shares=[0.85, 0.05, 0.05, 0.05]))
        await until(lambda: told)
        assert told[0].alarm.startswith("labels differ (PSI ")
        assert watch.alarms == (f"digits 3 drifts: {told[0].alarm}",)
        watch.take(answered(blueprint()))
        await until(lambda: len(told) > 1)
        assert (told[1].alarm, watch.alarms) == ("", ())

    watched(scene)


def test_brighter_frames_are_an_alarm_though_the_answers_are_the_same() -> None:
    async def scene(watch: DriftWatch, told: list[Drift]) -> None:
        watch.take(answered(blueprint(), brighter=60))
        await until(lambda: told)
        assert told[0].alarm.startswith("pixels shifted by")

    watched(scene)


def test_a_window_is_of_one_model_alone() -> None:
    async def scene(watch: DriftWatch, told: list[Drift]) -> None:
        watch.take(answered(blueprint(), shares=[1, 0, 0, 0]))
        watch.take(answered(blueprint(OTHER)))
        await until(lambda: told)
        assert [(drift.manifest, drift.sketch.frames, drift.alarm) for drift in told] == [(OTHER, COUNT, "")]

    watched(scene)


def test_a_new_model_ends_the_alarm_of_the_one_before() -> None:
    async def scene(watch: DriftWatch, told: list[Drift]) -> None:
        watch.take(answered(blueprint(), shares=[1, 0, 0, 0]))
        await until(lambda: told)
        assert watch.alarms
        watch.take(answered(blueprint(OTHER)))
        assert not watch.alarms

    watched(scene)


def test_a_model_without_a_reference_is_not_judged() -> None:
    async def scene(watch: DriftWatch, told: list[Drift]) -> None:
        watch.take(answered(blueprint(known=False)))
        await asyncio.sleep(0.05)
        assert (told, watch.alarms) == ([], ())

    watched(scene)


@given(st.integers(0, rules.LEAST_FRAMES - 1), st.floats(0, 1e9), st.floats(0.1, 1e6))
def test_a_window_of_few_frames_goes_on(frames: int, lasted_s: float, window_s: float) -> None:
    assert not rules.is_complete(frames, lasted_s, window_s)


@given(st.integers(rules.LEAST_FRAMES, 10**9), st.floats(0, 1e6), st.floats(0.1, 1e6))
def test_a_window_of_enough_frames_ends_with_its_time(frames: int, lasted_s: float, window_s: float) -> None:
    assert rules.is_complete(frames, lasted_s, window_s) == (lasted_s >= window_s)


@given(st.integers(1, 4096))
def test_a_few_frames_of_each_micro_batch_are_looked_at(count: int) -> None:
    assert 1 <= len(range(0, count, rules.stride(count))) <= rules.LOOKED_AT


@pytest.mark.parametrize("seed", range(20))
def test_no_window_of_the_same_data_is_an_alarm(seed: int) -> None:
    async def scene(watch: DriftWatch, told: list[Drift]) -> None:
        watch.take(answered(blueprint(), seed + 100))
        await until(lambda: told)
        assert told[0].alarm == ""

    watched(scene)
