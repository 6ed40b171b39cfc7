"""The part of the agent that frames go through, killed again and again at random, with a source that comes back."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.inference import supervisor
from edge.inference.answering import Start
from edge.inference.entities import Blueprint, FrameRun, Limits
from edge.inference.intake import Intake
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.kit.columns import decode
from tests import in_thread, tiny_models

pytestmark = pytest.mark.forks

ROUNDS = 200
LONGEST_LIFE_S = 0.12
WORKER_EVERY = 20
"""In so many rounds one has its model in a process of its own, which takes longer to start."""
FRAMES = 50
GOOD = tiny_models.int8(tiny_models.weights())


async def feed(inference: Inference, intake: Intake) -> None:
    """Hand frames over from where the device stands, for ever."""
    while True:
        first = intake.accepted + 1
        pixels = tiny_models.frames().reshape(4, 4)[np.arange(first, first + FRAMES) % 4]
        await inference.hand_over(intake, FrameRun(first, pixels, np.zeros(FRAMES, np.int64), taken_ns=0))
        await asyncio.sleep(0.001)


async def live(outbox: Outbox, blueprint: Blueprint, start: Start, told: Callable[[int], None]) -> None:
    """One life of the device; `told` gets what its source is told to be durable."""
    inference = Inference(outbox, Limits(batch_frames=FRAMES), start)
    running = asyncio.create_task(inference.run())
    await inference.use(blueprint)
    async with inference.intake("cam") as intake:
        feeding = asyncio.create_task(feed(inference, intake))
        async for reply in intake.replies():
            assert not reply.problem
            assert not running.done()
            assert not feeding.done()
            told(reply.watermark)


def killed(action: Callable[[int], None], life_s: float) -> list[int]:
    """Have `action` done in a process that is killed after so long; returns the numbers that it wrote."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action(writing)
        finally:
            os._exit(1)
    os.close(writing)
    time.sleep(life_s)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, encoding="ascii") as lines:
        numbers = [int(line) for line in lines if line.endswith("\n")]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == -signal.SIGKILL, "it ended by itself"
    return numbers


@pytest.mark.timeout(600)
def test_every_frame_is_stored_once_and_none_that_its_source_was_told_of_is_lost(tmp_path: Path) -> None:
    manifest = tiny_models.manifest({"int8": GOOD})
    file = tmp_path / "model.tflite"
    file.write_bytes(GOOD)
    blueprint = Blueprint(file, manifest.variants[0], manifest.preprocessing, 1, bytes(32), "tiny", 1)
    path, chance, told = tmp_path / "outbox.db", random.Random(5), 0

    for number in range(ROUNDS):
        real = number % WORKER_EVERY == 0
        start: Start = supervisor.start if real else in_thread.start

        def device(writing: int, start: Start = start) -> None:
            outbox = Outbox.open(path, 1 << 30)
            asyncio.run(live(outbox, blueprint, start, lambda mark: os.write(writing, b"%d\n" % mark) and None))

        watermarks = killed(device, chance.random() * LONGEST_LIFE_S * (10 if real else 1))
        assert watermarks == sorted(watermarks)
        assert not watermarks or watermarks[0] >= told, "a new life knows what the one before it said"
        told = max([told, *watermarks])

    stored = [decode(batch.payload, batch.count) for batch in Outbox.open(path, 1 << 30).after(0, 1_000_000)]
    frames = [frame for results in stored for frame in results.frame.tolist()]
    assert frames == list(range(1, len(frames) + 1))
    assert len(frames) >= told > ROUNDS
    assert [label for results in stored for label in results.label.tolist()] == [frame % 4 for frame in frames]
