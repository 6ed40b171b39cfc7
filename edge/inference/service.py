"""Frames become durable results: micro-batches by turns from the sources, one engine, one commit for what is ready.

The engine works in a thread of its own while the results before it are committed in another. A source is told of a
frame only after the commit; until then the frame counts against the room it has, and so a slow disk slows the source.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from edge.inference import rules
from edge.inference.entities import Answers, Classifier, FrameRun, MicroBatch, Serving, SourceBusy, Stats
from edge.inference.intake import Intake
from edge.uplink.entities import NewBatch, OutboxFailed
from edge.uplink.outbox import Outbox
from protos.kit import columns
from protos.topics import MAX_BATCH_ROWS, checked_name

TRIES = 2
OUTBOX_RETRY_S = 1.0
LATENCIES_KEPT = 4096
"""Micro-batches whose latencies are kept for `stats`: the newest of the interval."""

_Number = TypeVar("_Number", bound=np.generic)

log = structlog.get_logger()


class BadAnswers(Exception):
    """The engine answered, but not with one sound answer for each frame."""


@dataclass(frozen=True, slots=True, eq=False)
class _Answered:
    """A micro-batch that has its end: results, or the problem why it has none."""

    intake: Intake
    batch: MicroBatch
    new: NewBatch
    problem: str = ""


class Inference:
    """The device's inference. All methods belong on the event loop of `run`.

    batch_frames: most frames at once, 1 to MAX_BATCH_ROWS. queue_frames: frames that one source may have unsettled.
    inferences, errors: frames with and without a result since the start.
    """

    def __init__(self, outbox: Outbox, batch_frames: int = 64, queue_frames: int = 2 * MAX_BATCH_ROWS) -> None:
        if not 0 < batch_frames <= MAX_BATCH_ROWS:
            raise ValueError(f"batch_frames is {batch_frames}: use 1 to {MAX_BATCH_ROWS}")
        self._outbox = outbox
        self._batch_frames = batch_frames
        self._queue_frames = queue_frames
        self._serving: Serving | None = None
        self._intakes: dict[str, Intake] = {}  # whose turn is next comes first
        self._answered: list[_Answered] = []
        self._changed = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._latencies: deque[NDArray[np.uint32]] = deque(maxlen=LATENCIES_KEPT)
        self.inferences = 0
        self.errors = 0
        self._counted = (0, 0)  # inferences and errors at the last `stats`

    async def run(self) -> None:
        """Work for ever. Run it once; frames of a cancelled run are not settled, their sources hand them in again."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._infer(), name="inference")
                group.create_task(self._commit(), name="results to the outbox")
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def use(self, engine: Classifier, manifest_digest: bytes, model: str, version: int) -> None:
        """Answer with this model from the next micro-batch on. No frame is dropped, none is answered twice."""
        self._serving = Serving(engine, manifest_digest, model, version)
        self._tell()

    def withdraw(self) -> None:
        """Answer with no model from the next micro-batch on: frames wait."""
        self._serving = None

    @asynccontextmanager
    async def intake(self, source: str) -> AsyncIterator[Intake]:
        """The queue of one source, for as long as its stream lasts.

        Waits until nothing of an earlier stream is in work, so that the watermark it starts with is final. Raises
        SourceBusy, or ValueError for a name that is none.
        """
        checked_name(source, "source")
        while (before := self._intakes.get(source)) is not None:
            if not before.left:
                raise SourceBusy(f"source {source!r} already has a stream: end that one, or use another name")
            await before.gone()
            self._forget(before)
        intake = self._intakes[source] = Intake(source, self._outbox.source_watermark(source), self._queue_frames)
        try:
            yield intake
        finally:
            intake.leave()
            self._forget(intake)

    async def hand_over(self, intake: Intake, run: FrameRun) -> None:
        """Take frames of a source; returns when they have room in its queue. Frames that cannot fit are refused."""
        if self._serving and (problem := rules.misfit(run.pixels.shape[1], self._serving.engine.frame_shape)):
            return intake.refuse(f"frames from {run.first_frame}: {problem}")
        await intake.put(run)
        return self._tell()

    def stats(self) -> Stats:
        """What happened since the last call."""
        latencies = np.concatenate(self._latencies) if self._latencies else np.zeros(1, np.uint32)
        p50, p95 = np.percentile(latencies, [50, 95]).astype(int).tolist()
        before, self._counted = self._counted, (self.inferences, self.errors)
        self._latencies.clear()
        return Stats(self.inferences - before[0], self.errors - before[1], p50, p95)

    async def _infer(self) -> None:
        while True:
            if self._serving and (intake := self._next_intake()):
                batch = intake.take(self._batch_frames)
                answered = await self._answer(intake, batch, self._serving)
                self._answered.append(answered)  # apart: the list may have been taken during the await
                self._tell()
            else:
                await self._changed.wait()

    def _next_intake(self) -> Intake | None:
        """The first in turn that has frames; it goes to the end."""
        intake = next((intake for intake in self._intakes.values() if intake.has_frames), None)
        if intake:
            self._intakes[intake.source] = self._intakes.pop(intake.source)
        return intake

    async def _answer(self, intake: Intake, batch: MicroBatch, serving: Serving) -> _Answered:
        """The results, or after TRIES failures none: frames that cannot be answered must not stop those behind them."""
        loop, problem = asyncio.get_running_loop(), ""
        for _ in range(TRIES):
            serving = self._serving or serving
            try:
                new, latency_us = await loop.run_in_executor(self._executor, _results, serving, batch)
            except Exception as error:  # noqa: BLE001 - whatever an interpreter raises concerns these frames only
                problem = f"{type(error).__name__}: {error}"
                log.warning(
                    "inference failed",
                    source=intake.source,
                    frames=len(batch),
                    last_frame=batch.last_frame,
                    model=serving.model,
                    version=serving.version,
                    error=problem,
                )
            else:
                self.inferences += len(batch)
                self._latencies.append(latency_us)
                return _Answered(intake, batch, new)
        self.errors += len(batch)
        failed = f"frames {batch.runs[0].first_frame} to {batch.last_frame} have no result: {problem}"
        return _Answered(intake, batch, NewBatch(0, b"", intake.source, batch.last_frame), failed)

    async def _commit(self) -> None:
        while True:
            if self._answered:
                ready, self._answered = self._answered, []
                await self._store([answered.new for answered in ready])
                for answered in ready:
                    answered.intake.settle(answered.batch, answered.problem)
                    self._forget(answered.intake)
            else:
                await self._changed.wait()

    async def _store(self, batches: Sequence[NewBatch]) -> None:
        """All in one commit, however long it takes until there is room: the sources wait as long."""
        while True:
            try:
                return await asyncio.to_thread(self._outbox.append, batches)
            except OutboxFailed as error:
                log.error("results not durable yet", batches=len(batches), error=str(error))
                await asyncio.sleep(OUTBOX_RETRY_S)

    def _forget(self, intake: Intake) -> None:
        if intake.left and not intake.in_work and self._intakes.get(intake.source) is intake:
            del self._intakes[intake.source]

    def _tell(self) -> None:
        # A pulse: whoever waits looks again; whoever comes later looks first and does not miss it.
        self._changed.set()
        self._changed.clear()


def _results(serving: Serving, batch: MicroBatch) -> tuple[NewBatch, NDArray[np.uint32]]:
    """In the engine's thread: infer `n` frames and encode the results once. Also the latencies, uint32 (n,) in µs."""
    pixels = _joined([run.pixels for run in batch.runs])
    if problem := rules.misfit(pixels.shape[1], serving.engine.frame_shape):
        raise BadAnswers(problem)
    answers = serving.engine.classify(pixels.reshape(len(pixels), *serving.engine.frame_shape))
    _check(answers, len(batch))
    now_ns = time.monotonic_ns()
    sizes = [len(run) for run in batch.runs]
    waited_us = [min((now_ns - run.taken_ns) // 1000, 2**32 - 1) for run in batch.runs]
    latency_us = np.repeat(np.array(waited_us, np.uint32), sizes)
    payload = columns.encode(
        columns.Results(
            model=serving.model,
            version=serving.version,
            manifest=serving.manifest,
            source=batch.source,
            frame=_joined([np.arange(run.first_frame, run.last_frame + 1, dtype=np.uint64) for run in batch.runs]),
            captured_us=_joined([run.captured_us for run in batch.runs]),
            label=answers.label,
            confidence=answers.confidence,
            latency_us=latency_us,
        )
    )
    return NewBatch(len(batch), payload, batch.source, batch.last_frame), latency_us


def _joined(parts: Sequence[NDArray[_Number]]) -> NDArray[_Number]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _check(answers: Answers, count: int) -> None:
    if len(answers.label) != count or len(answers.confidence) != count:
        raise BadAnswers(f"{len(answers.label)} answers to {count} frames")
    if not np.isfinite(answers.confidence).all():
        raise BadAnswers("confidence has values that are not numbers")
