"""Models in worker processes: what they do to themselves, and that it stays with them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edge.inference import supervisor
from edge.inference.entities import BadModel, Blueprint, FrameRun, Limits, MicroBatch
from edge.inference.intake import Intake
from edge.inference.service import Inference
from edge.inference.supervisor import Worker
from edge.uplink.outbox import Outbox
from protos.kit.columns import decode
from protos.v1.manifest_pb2 import TensorSpec, Variant
from tests import hostile, tiny_models
from tests.hostile import CRASH, EAT, HANG, NAN, RAISE, SLOW

FRAMES = 5  # in a micro-batch
HANG_S = 1.0


class Device:
    """Inference with worker processes, their interpreter the hostile one, and one source."""

    def __init__(self, folder: Path, inference: Inference, outbox: Outbox, intake: Intake) -> None:
        self.folder = folder
        self.inference = inference
        self.outbox = outbox
        self.intake = intake
        self.handed = 0

    @property
    def pid(self) -> int | None:
        worker = self.inference._serving
        assert isinstance(worker, Worker)
        return worker.pid

    async def use(self, version: int, text: str = "") -> None:
        file = self.folder / f"{version}.tflite"
        file.write_text(text)
        await self.inference.use(blueprint(file, version))

    async def feed(self, *faults: int) -> None:
        """A micro-batch for each of these faults; 0: none. Their class is the frame's number % 4."""
        for fault in faults:
            pixels = np.zeros((FRAMES, 4), np.uint8)
            pixels[:, 0] = fault
            pixels[:, 1] = np.arange(self.handed + 1, self.handed + FRAMES + 1) % 4
            await self.inference.hand_over(
                self.intake, FrameRun(self.handed + 1, pixels, np.zeros(FRAMES, np.int64), taken_ns=0)
            )
            self.handed += FRAMES

    async def settled(self) -> list[str]:
        """Once all is settled: the problems that the source was told."""
        problems = []
        async for reply in self.intake.replies():
            problems += [reply.problem] if reply.problem else []
            if reply.watermark == self.handed:
                break
        return problems

    def frames(self) -> list[int]:
        """All that are stored, after a look at their answers."""
        found = []
        for batch in self.outbox.after(0, 100_000):
            results = decode(batch.payload, batch.count)
            assert results.label.tolist() == [frame % 4 for frame in results.frame.tolist()]
            found += results.frame.tolist()
        return found


def blueprint(file: Path, version: int) -> Blueprint:
    input_spec, output_spec = TensorSpec(shape=(2, 2), dtype="float32"), TensorSpec(shape=(4,), dtype="float32")
    variant = Variant(name="float32", input=input_spec, output=output_spec)
    return Blueprint(file, variant, tiny_models.preprocessing(), 1, bytes(32), "hostile", version)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Device], Awaitable[None]]], None]:
    """Act out a scene on a device whose first model is loaded."""
    monkeypatch.setenv("PYTHONPATH", str(hostile.FOLDER))

    async def main(scene: Callable[[Device], Awaitable[None]]) -> None:
        outbox = Outbox.open(tmp_path / "outbox.db", 1 << 30)
        start = partial(supervisor.start, hang_s=HANG_S)
        inference = Inference(outbox, Limits(batch_frames=FRAMES), start)
        running = asyncio.create_task(inference.run())
        try:
            async with inference.intake("cam") as intake:
                device = Device(tmp_path, inference, outbox, intake)
                await device.use(1)
                await scene(device)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return lambda scene: asyncio.run(main(scene))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the state is polled as a person would look at it
        await asyncio.sleep(0.01)


Play = Callable[[Callable[[Device], Awaitable[None]]], None]


@pytest.mark.parametrize(
    ("fault", "problem", "crashes"),
    [
        (CRASH, "SIGSEGV", 2),
        (EAT, "SIGABRT", 2),
        (HANG, "hung", 2),
        (NAN, "values that are not numbers", 0),
        (RAISE, "a node failed to invoke", 0),
    ],
)
def test_frames_that_a_model_cannot_survive_fail_alone_after_a_second_try(
    play: Play, fault: int, problem: str, crashes: int
) -> None:
    async def scene(device: Device) -> None:
        await device.feed(0, fault, 0, 0)
        problems = await device.settled()
        assert len(problems) == 1
        assert "frames 6 to 10 have no result" in problems[0]
        assert problem in problems[0]
        assert device.frames() == [*range(1, 6), *range(11, 21)]
        assert (device.inference.inferences, device.inference.errors) == (15, 5)
        assert device.inference.crashes == crashes

    play(scene)


def test_a_killed_worker_costs_nothing(play: Play) -> None:
    async def scene(device: Device) -> None:
        chance = random.Random(3)
        for _ in range(6):
            await device.feed(*[SLOW] * 4)
            await asyncio.sleep(chance.random() * 0.1)
            if device.pid:
                os.kill(device.pid, signal.SIGKILL)
            assert await device.settled() == []
        assert device.frames() == list(range(1, device.handed + 1))
        assert device.inference.errors == 0

    play(scene)


def test_a_swap_of_workers_loses_no_frame_and_doubles_none(play: Play) -> None:
    async def scene(device: Device) -> None:
        async def swap() -> None:
            for version in range(2, 5):
                await device.use(version)

        swapping = asyncio.create_task(swap())
        while not swapping.done():
            await device.feed(0, SLOW)
            await asyncio.sleep(0.01)
        assert await device.settled() == []
        assert device.frames() == list(range(1, device.handed + 1))
        versions = [decode(b.payload, b.count).version for b in device.outbox.after(0, 100_000)]
        assert versions == sorted(versions)

    play(scene)


@pytest.mark.parametrize(("text", "problem"), [("refuse", "not a model"), ("abort", "SIGABRT")])
def test_a_model_that_cannot_be_loaded_is_refused_and_the_one_before_serves_on(
    play: Play, text: str, problem: str
) -> None:
    async def scene(device: Device) -> None:
        with pytest.raises(BadModel, match=problem):
            await device.use(2, text)
        await device.feed(0)
        assert await device.settled() == []
        assert device.inference.crashes == 0

    play(scene)


def test_frames_of_a_model_that_cannot_be_started_again_wait_for_the_next_model(play: Play) -> None:
    async def scene(device: Device) -> None:
        await device.use(2, "gone")
        await device.feed(CRASH)
        await until(lambda: device.inference.crashes >= 3)
        assert device.intake.held == FRAMES
        await device.feed(0)
        await device.use(3)
        problems = await device.settled()  # the frame that crashes also crashes the next model
        assert len(problems) == 1
        assert device.frames() == [6, 7, 8, 9, 10]

    play(scene)


def test_what_a_model_was_given_is_waited_for(play: Play) -> None:
    async def scene(device: Device) -> None:
        await device.inference.settled()  # nothing yet
        await device.feed(HANG)
        await until(lambda: device.intake.in_work > 0)
        await device.inference.settled()
        assert (device.inference.errors, device.inference.crashes) == (FRAMES, 2)

    play(scene)


def test_a_worker_that_is_closed_at_the_moment_it_is_given_up_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(hostile.FOLDER))
    file = tmp_path / "1.tflite"
    file.write_text("")

    async def scene() -> None:
        worker = await supervisor.start(blueprint(file, 1), FRAMES)
        pid = worker.pid
        frames = FrameRun(1, np.full((1, 4), HANG, np.uint8), np.zeros(1, np.int64), taken_ns=0)
        outcome = worker.answer(MicroBatch("cam", (frames,)))
        worker._give_up("was told to")
        await worker.close()
        assert (await outcome).problem
        await until(lambda: not alive(pid))

    asyncio.run(scene())


def alive(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_worker_loads_nothing_that_only_the_agent_needs() -> None:
    code = "import sys, edge.inference.worker; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert not loaded & {"grpc", "pydantic", "structlog", "sqlite3", "asyncio", "aiomqtt", "cryptography"}


def test_the_agent_does_not_load_the_interpreter() -> None:
    code = "import sys, edge.agent; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert not {name for name in loaded if "litert" in name or "tflite" in name}
    assert "edge.inference.engine" not in loaded


def test_a_worker_ends_with_its_agent(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(tiny_models.int8(tiny_models.weights()))
    agent = subprocess.Popen([sys.executable, "-c", _AGENT, str(file)], stdout=subprocess.PIPE, text=True)
    assert agent.stdout
    worker = int(agent.stdout.readline())
    os.kill(worker, 0)
    agent.kill()
    agent.wait()
    agent.stdout.read()  # ends when the last process that has its other end has ended
    asyncio.run(until(lambda: not Path(f"/proc/{worker}").exists()))


_AGENT = """
import asyncio, sys
from pathlib import Path
from edge.inference import supervisor
from edge.inference.entities import Blueprint, Limits
from tests import tiny_models

async def main():
    manifest = tiny_models.manifest({"int8": tiny_models.int8(tiny_models.weights())})
    blueprint = Blueprint(Path(sys.argv[1]), manifest.variants[0], manifest.preprocessing, 1, bytes(32), "m", 1)
    worker = await supervisor.start(blueprint, 8)
    print(worker.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""
