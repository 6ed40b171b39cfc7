"""Frames become durable results: micro-batches by turns from the sources, one engine, one commit for what is ready.

The engine works in a thread of its own while the results before it are committed in another. A source is told of a
frame only after the commit; until then the frame counts against the room it has, and so a slow disk slows the source.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import numpy as np
import structlog
from numpy.typing import NDArray

from edge.inference import rules
from edge.inference.entities import Classifier, FrameRun, MicroBatch, Serving, SourceBusy, Stats
from edge.inference.intake import Intake
from edge.inference.worker import Outcome, answer
from edge.uplink.entities import NewBatch, OutboxFailed
from edge.uplink.outbox import Outbox
from protos.topics import MAX_BATCH_ROWS, checked_name

AHEAD = 2
"""Micro-batches with the engine at once: while it infers one, the next is there already."""

OUTBOX_RETRY_S = 1.0
PARTING_S = 1.0
"""A source that broke off and comes back at once is faster than the news of its end: so long it is waited for."""

LATENCIES_KEPT = 4096
"""Micro-batches whose latencies are kept for `stats`: the newest of the interval."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """A micro-batch that is with the engine, or has its outcome and waits for its commit."""

    intake: Intake
    batch: MicroBatch
    outcome: asyncio.Future[Outcome]


class Inference:
    """The device's inference. All methods belong on the event loop of `run`.

    batch_frames: most frames at once, 1 to MAX_BATCH_ROWS. queue_frames: frames that one source may have unsettled.
    inferences, errors: frames with and without a result since the start.
    """

    def __init__(self, outbox: Outbox, batch_frames: int = 64, queue_frames: int = 1024) -> None:
        if not 0 < batch_frames <= MAX_BATCH_ROWS:
            raise ValueError(f"batch_frames is {batch_frames}: use 1 to {MAX_BATCH_ROWS}")
        self._outbox = outbox
        self._batch_frames = batch_frames
        self._queue_frames = queue_frames
        self._serving: Serving | None = None
        self._intakes: dict[str, Intake] = {}  # whose turn is next comes first
        self._work: deque[_Work] = deque()  # in the order of its commit
        self._with_engine = 0
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
        """Answer with no model: frames that are not yet with the engine wait for one."""
        self._serving = None

    @asynccontextmanager
    async def intake(self, source: str) -> AsyncIterator[Intake]:
        """The queue of one source, for as long as its stream lasts.

        Waits until nothing of an earlier stream is in work, so that the watermark it starts with is final. Raises
        SourceBusy, or ValueError for a name that is none.
        """
        checked_name(source, "source")
        while (before := self._intakes.get(source)) is not None:
            await _parted(before)
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
            if self._serving and self._with_engine < AHEAD and (intake := self._next_intake()):
                self._begin(intake, self._serving)
            else:
                await self._changed.wait()

    def _begin(self, intake: Intake, serving: Serving) -> None:
        batch = intake.take(self._batch_frames)
        task = partial(answer, batch, lambda: self._serving or serving)
        outcome = asyncio.get_running_loop().run_in_executor(self._executor, task)
        self._with_engine += 1
        self._work.append(_Work(intake, batch, outcome))
        outcome.add_done_callback(self._answered)

    def _answered(self, _: asyncio.Future[Outcome]) -> None:
        self._with_engine -= 1
        self._tell()

    def _next_intake(self) -> Intake | None:
        """The first in turn that has frames; it goes to the end."""
        intake = next((intake for intake in self._intakes.values() if intake.has_frames), None)
        if intake:
            self._intakes[intake.source] = self._intakes.pop(intake.source)
        return intake

    async def _commit(self) -> None:
        while True:
            if ready := list(takewhile(lambda work: work.outcome.done(), self._work)):
                await self._store([work.outcome.result().new for work in ready])
                for work in ready:
                    self._work.popleft()
                    self._settle(work, work.outcome.result())
            else:
                await self._changed.wait()

    def _settle(self, work: _Work, outcome: Outcome) -> None:
        if outcome.problem:
            self.errors += len(work.batch)
        else:
            self.inferences += len(work.batch)
            self._latencies.append(outcome.latency_us)
        work.intake.settle(work.batch, outcome.problem)
        self._forget(work.intake)

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


async def _parted(intake: Intake) -> None:
    try:
        async with asyncio.timeout(PARTING_S):
            await intake.parted()
    except TimeoutError:
        raise SourceBusy(f"source {intake.source!r} already has a stream: end that one, or use another name") from None
