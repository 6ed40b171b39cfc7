"""Inference and outbox as the agent wires them, with a source that hands over as fast as it is allowed to."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.on_device.models import Subject
from edge.inference import supervisor
from edge.inference.entities import Blueprint, FrameRun, MicroBatch, Outcome
from edge.inference.intake import Intake
from edge.inference.service import Inference
from edge.inference.supervisor import Worker
from edge.uplink.outbox import Outbox

DIGEST = b"\1" * 32
OUTBOX_BYTES = 2**33
RUN_BYTES = 200_000
"""Frames are handed over in runs of about this size, as a camera's application would."""

RAMP_S = 0.3


@dataclass(frozen=True, slots=True)
class Durable:
    """frames with a durable result, in so many seconds. busy_s: processor time of agent and model's process together.

    worker_s: the part of it in the model's process; model_s: in the interpreter itself. pause_s: the longest time that
    no model was at work.
    """

    frames: int
    seconds: float
    busy_s: float
    worker_s: float
    model_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class Swaps:
    """lost: frames without a result. pause_s: the longest time that no model was at work."""

    lost: int
    pause_s: float


def longest_pause_s(turns: Iterable[tuple[int, int]]) -> float:
    """The longest gap between turns, each from its begin to its end in nanoseconds."""
    longest = latest = 0
    for began, ended in sorted(turns):
        longest = max(longest, began - latest) if latest else 0
        latest = max(latest, ended)
    return longest / 1e9


class Load:
    """One source's frames, numbered from 1."""

    def __init__(
        self, inference: Inference, outbox: Outbox, intake: Intake, watched: Watched, subject: Subject
    ) -> None:
        self.watched = watched
        self.outbox = outbox
        self.inference = inference
        self._intake = intake
        frame_bytes = int(np.prod(subject.preprocessing.frame_shape))
        self._pixels = subject.frames(max(1, RUN_BYTES // frame_bytes)).reshape(-1, frame_bytes)
        self._offsets = np.arange(len(self._pixels), dtype=np.int64)
        self._handed = 0

    async def hand_over(self, count: int) -> None:
        """The next frames, at most a run."""
        captured = self._offsets[:count] + time.time_ns() // 1000
        run = FrameRun(self._handed + 1, self._pixels[:count], captured, time.monotonic_ns())
        await self.inference.hand_over(self._intake, run)
        self._handed = run.last_frame

    async def settled(self) -> None:
        """Return when every frame handed over has a durable result."""
        async for reply in self._intake.replies():
            assert not reply.problem, reply.problem
            if reply.watermark == self._handed:
                return

    async def one(self) -> float:
        """Seconds from the hand-over of one frame to its durable result."""
        started = time.perf_counter()
        await self.hand_over(1)
        await self.settled()
        return time.perf_counter() - started

    async def full(self, seconds: float) -> Durable:
        """What becomes durable at full load: from one commit to the first one after so many seconds."""
        feeding = asyncio.create_task(self._feed())
        await asyncio.sleep(RAMP_S)
        await self._moved()
        before, started, busy_s = self._intake.watermark, time.perf_counter(), self.watched.busy_s()
        worker_s, model_s, turn = self.watched.worker_s(), self.watched.model_ns / 1e9, len(self.watched.turns)
        await asyncio.sleep(seconds)
        await self._moved()
        frames, taken = self._intake.watermark - before, time.perf_counter() - started
        busy_s, worker_s = self.watched.busy_s() - busy_s, self.watched.worker_s() - worker_s
        model_s = self.watched.model_ns / 1e9 - model_s
        pause_s = longest_pause_s(self.watched.turns[turn:])
        feeding.cancel()
        await asyncio.wait({feeding})
        await self.settled()
        return Durable(frames, taken, busy_s, worker_s, model_s, pause_s)

    async def swaps(self, subject: Subject, threads: int, count: int) -> Swaps:
        """Swap the model so many times at full load."""
        before = self.outbox.ledger.last_seq
        handed, turn = self._handed, len(self.watched.turns)
        feeding = asyncio.create_task(self._feed())
        for version in range(2, count + 2):
            await self.inference.use(blueprint(subject, threads, version))
        feeding.cancel()
        await asyncio.wait({feeding})
        await self.settled()
        lost = self._handed - handed - (self.outbox.ledger.last_seq - before)
        return Swaps(lost, longest_pause_s(self.watched.turns[turn:]))

    async def _moved(self) -> None:
        """Return at the next commit."""
        before = self._intake.watermark
        async for reply in self._intake.replies():
            assert not reply.problem, reply.problem
            if reply.watermark > before:
                return

    async def _feed(self) -> None:
        while True:
            await self.hand_over(len(self._pixels))


class Watched:
    """A worker, its replies added up: the benchmark starts it in the place of `supervisor.start`."""

    def __init__(self) -> None:
        self.model_ns = 0
        self.turns: list[tuple[int, int]] = []
        self._workers: list[Worker] = []

    async def start(self, blueprint: Blueprint, most: int) -> Worker:
        """As `edge.inference.answering.Start`."""
        worker = await supervisor.start(blueprint, most)
        given = worker.answer

        def answer(batch: MicroBatch) -> asyncio.Future[Outcome]:
            outcome = given(batch)
            outcome.add_done_callback(self._add)
            return outcome

        worker.answer = answer  # type: ignore[method-assign]
        self._workers.append(worker)
        return worker

    def busy_s(self) -> float:
        """Processor time of this process and of the workers that live."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime + self.worker_s()

    def worker_s(self) -> float:
        """Processor time of the workers that live."""
        return sum(_busy_s(worker.pid) for worker in self._workers if worker.pid)

    def _add(self, future: asyncio.Future[Outcome]) -> None:
        outcome = future.result()
        self.model_ns += outcome.model_ns
        self.turns.append((outcome.began_ns, outcome.ended_ns))


def _busy_s(pid: int) -> float:
    """Of all threads of a process, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def blueprint(subject: Subject, threads: int, version: int = 1) -> Blueprint:
    """How the agent would be told to run it."""
    return Blueprint(subject.path, subject.variant, subject.preprocessing, threads, DIGEST, "measured", version)


@asynccontextmanager
async def device(subject: Subject, folder: Path, threads: int) -> AsyncIterator[Load]:
    """A device in `folder` that runs the model."""
    outbox = Outbox.open(folder / "outbox.sqlite", OUTBOX_BYTES)
    watched = Watched()
    inference = Inference(outbox, start=watched.start)
    await inference.use(blueprint(subject, threads))
    running = asyncio.create_task(inference.run())
    try:
        async with inference.intake("measured") as intake:
            yield Load(inference, outbox, intake, watched, subject)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        outbox.close()
