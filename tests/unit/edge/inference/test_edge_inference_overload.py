"""Sources that cannot wait: what they lose to overload, and that every frame is accounted for."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.inference import rules
from edge.inference.entities import Answers, FrameRun, Limits, Overload
from edge.inference.intake import Intake
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.kit.columns import decode
from tests import in_thread, tiny_models
from tests.in_thread import rehearsal

FRAME_BYTES = 4
FRAMES = st.integers(0, 10_000)


class Moody:
    """A classifier that fails now and then."""

    frame_shape = tiny_models.FRAME_SHAPE
    busy_ns = 0

    def __init__(self, chance: random.Random, failing: float) -> None:
        self.chance = chance
        self.failing = failing

    def classify(self, frames: NDArray[np.uint8]) -> Answers:
        if self.chance.random() < self.failing:
            raise RuntimeError("the interpreter stumbled")
        return Answers(np.zeros(len(frames), np.uint16), np.ones(len(frames), np.float32))


def run_of(first: int, count: int) -> FrameRun:
    return FrameRun(first, np.zeros((count, FRAME_BYTES), np.uint8), np.zeros(count, np.int64), taken_ns=0)


def numbers(queue: Intake) -> list[int]:
    """Of all frames that wait."""
    batch = queue.take(10_000)
    return [frame for run in batch.runs for frame in range(run.first_frame, run.last_frame + 1)]


def filled(*runs: FrameRun, limit: int) -> Intake:
    queue = Intake("cam", 0, lambda _: limit, Overload.DROP_OLDEST)

    async def fill() -> None:
        for run in runs:
            await queue.put(run)

    asyncio.run(fill())
    return queue


@given(FRAMES, FRAMES, st.integers(1, 4096), st.integers(1, 10_000))
def test_as_many_are_dropped_as_are_too_many_and_never_the_newest(
    waiting: int, in_work: int, count: int, limit: int
) -> None:
    dropped = rules.overflow(waiting, in_work, count, limit)
    left = waiting + count - dropped
    assert left >= 1
    assert dropped == 0 or left == 1 or left + in_work == limit
    assert left + in_work <= limit or left == 1


def test_the_oldest_that_wait_make_room_for_the_newest() -> None:
    queue = filled(run_of(1, 40), run_of(41, 40), run_of(81, 40), limit=100)
    assert queue.dropped == 20
    assert numbers(queue) == list(range(21, 121))


def test_of_a_run_larger_than_the_queue_the_newest_frames_stay() -> None:
    queue = filled(run_of(1, 40), run_of(41, 250), limit=100)
    assert queue.dropped == 190
    assert numbers(queue) == list(range(191, 291))


def test_a_source_that_leaves_has_lost_what_waits_if_it_cannot_wait() -> None:
    queue = filled(run_of(1, 40), limit=100)
    queue.leave()
    assert (queue.dropped, queue.held) == (40, 0)


def test_of_a_million_frames_each_is_stored_dropped_or_failed(tmp_path: Path) -> None:
    million, chance = 1_000_000, random.Random(7)
    outbox = Outbox.open(tmp_path / "outbox.db", 1 << 30)
    inference = Inference(outbox, Limits(queue_frames=4096), in_thread.start)

    async def source(name: str, overload: Overload, frames: int) -> None:
        async with inference.intake(name, overload) as intake:
            first = 1
            while first <= frames:
                count = min(chance.randint(1, 3000), frames + 1 - first)
                await inference.hand_over(intake, run_of(first, count))
                first += count
                if chance.random() < 0.3:
                    await asyncio.sleep(0.001)
            intake.end()
            deque([reply async for reply in intake.replies()], maxlen=0)
            assert intake.watermark == frames

    async def swaps() -> None:
        for version in range(1, 1000):
            await inference.use(rehearsal(Moody(chance, failing=0.2), version))
            await asyncio.sleep(0.05)

    async def main() -> None:
        running, swapping = asyncio.create_task(inference.run()), asyncio.create_task(swaps())
        await asyncio.gather(
            source("waits", Overload.WAIT, million // 4),
            source("camera", Overload.DROP_OLDEST, million // 2),
            source("second-camera", Overload.DROP_OLDEST, million // 4),
        )
        swapping.cancel()
        running.cancel()
        await asyncio.gather(running, swapping, return_exceptions=True)

    asyncio.run(main())
    stored = [decode(batch.payload, batch.count) for batch in outbox.after(0, 1_000_000)]
    frames = [(results.source, frame) for results in stored for frame in results.frame.tolist()]
    assert len(frames) == len(set(frames)) == inference.inferences
    assert inference.inferences + inference.dropped + inference.errors == million
    assert min(inference.inferences, inference.dropped, inference.errors) > 0
    assert sum(source == "waits" for source, _ in frames) + inference.errors >= million // 4
