"""A worker that is killed again and again at random moments, with the real interpreter under load."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from edge.inference.entities import Blueprint, FrameRun, Limits
from edge.inference.intake import Intake
from edge.inference.service import Inference
from edge.inference.supervisor import Worker
from edge.uplink.outbox import Outbox
from protos.kit.columns import decode
from tests import tiny_models

ROUNDS = 200
FRAMES = 50
GOOD = tiny_models.int8(tiny_models.weights())


async def feed(inference: Inference, intake: Intake, over: asyncio.Event) -> int:
    """Hand frames over until it is over; returns the number of the last."""
    first = 1
    while not over.is_set():
        pixels = tiny_models.frames().reshape(4, 4)[np.arange(first, first + FRAMES) % 4]
        await inference.hand_over(intake, FrameRun(first, pixels, np.zeros(FRAMES, np.int64), taken_ns=0))
        first += FRAMES
        await asyncio.sleep(0.002)
    return first - 1


async def kill_again_and_again(inference: Inference, chance: random.Random) -> None:
    for _ in range(ROUNDS):
        worker = inference._serving
        assert isinstance(worker, Worker)
        while not worker.pid:  # noqa: ASYNC110 - whoever kills does not wait to be told
            await asyncio.sleep(0.001)
        await asyncio.sleep(chance.random() * 0.05)
        if worker.pid:
            os.kill(worker.pid, signal.SIGKILL)


@pytest.mark.timeout(900)
def test_every_frame_is_stored_once_or_counted_as_failed(tmp_path: Path) -> None:
    manifest = tiny_models.manifest({"int8": GOOD})
    file = tmp_path / "model.tflite"
    file.write_bytes(GOOD)
    blueprint = Blueprint(file, manifest.variants[0], manifest.preprocessing, 1, bytes(32), "tiny", 1)
    outbox = Outbox.open(tmp_path / "outbox.db", 1 << 30)

    async def main() -> tuple[Inference, int]:
        inference, over = Inference(outbox, Limits(batch_frames=FRAMES)), asyncio.Event()
        running = asyncio.create_task(inference.run())
        await inference.use(blueprint)
        async with inference.intake("cam") as intake:
            feeding = asyncio.create_task(feed(inference, intake, over))
            await kill_again_and_again(inference, random.Random(11))
            over.set()
            last = await feeding
            async for reply in intake.replies():
                if reply.watermark == last:
                    break
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return inference, last

    inference, last = asyncio.run(main())
    stored = [decode(batch.payload, batch.count) for batch in outbox.after(0, 1_000_000)]
    frames = [frame for results in stored for frame in results.frame.tolist()]
    assert frames == sorted(set(frames))
    assert len(frames) + inference.errors == last
    assert [label for results in stored for label in results.label.tolist()] == [frame % 4 for frame in frames]
    assert inference.errors <= ROUNDS // 2 * FRAMES  # a failure takes two kills
