"""Frames become durable results: micro-batches by turns from the sources, one model, one commit for what is ready.

The model works in a process of its own while the results before it are committed in a thread. A source is told of a
frame only after the commit; until then the frame counts against the room it has, and so a slow disk slows the source.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import structlog

from edge.foundation.events import Tell, untold
from edge.inference import happenings, rules, supervisor
from edge.inference.answering import Answering, Start
from edge.inference.entities import (
    Answered,
    Blueprint,
    FrameRun,
    Limits,
    MicroBatch,
    Outcome,
    Overload,
    SourceBusy,
    Stats,
)
from edge.inference.intake import Intake
from edge.inference.latencies import Latencies
from edge.uplink.entities import NewBatch, OutboxFailed
from edge.uplink.of_slot import Results
from protos.topics import checked_name

TRIES = 2
"""Frames that cannot be answered must not stop those behind them."""

OUTBOX_RETRY_S = 1.0
PARTING_S = 1.0
"""A source that broke off and comes back at once is faster than the news of its end: so long it is waited for."""

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Work:
    """A micro-batch on its way to its commit. outcome: None while it has none for good."""

    intake: Intake
    batch: MicroBatch
    tries: int = 0
    outcome: Outcome | None = None
    blueprint: Blueprint | None = None  # of the model that answered


class Inference:
    """The device's inference. All methods belong on the event loop of `run`.

    inferences, errors: frames with and without a result since the start. dropped: frames that overload has cost sources
    that cannot wait. crashes: ends of a model's process that nobody ordered. tell: takes what a person should know.
    """

    def __init__(self, outbox: Results, limits: Limits | None = None, start: Start = supervisor.start) -> None:
        self._outbox = outbox
        self._limits = limits or Limits()
        self._start = start
        self._serving: Answering | None = None
        self._leaving: dict[Answering, asyncio.Task[None]] = {}
        self._intakes: dict[str, Intake] = {}  # whose turn is next comes first
        self._work: deque[_Work] = deque()  # in the order of its commit
        self._again: deque[_Work] = deque()  # to be tried once more
        self._with_model = 0  # micro-batches
        self._frames_with_model = 0
        self._committed = 0.0  # when the last commit began
        self._changed = asyncio.Event()
        self._latencies = Latencies()
        self._former_crashes = 0
        self._listeners: list[Callable[[NewBatch], None]] = []
        self._watchers: list[Callable[[Answered], None]] = []
        self.tell: Tell = untold
        self.inferences = 0
        self.errors = 0
        self.dropped = 0
        self._counted = (0, 0, 0, 0)  # inferences, errors, dropped frames and crashes at the last `stats`

    def on_results(self, listener: Callable[[NewBatch], None]) -> None:
        """Call `listener` with each batch once it is durable; one of count 0 has no results. It must not wait."""
        self._listeners.append(listener)

    def on_answered(self, watcher: Callable[[Answered], None]) -> None:
        """Call `watcher` with frames and their results, after their source was told. One that fails is called no more.

        It must not wait, and not keep the frames for long: they are the source's memory.
        """
        self._watchers.append(watcher)

    @property
    def crashes(self) -> int:
        """Since the start."""
        return self._former_crashes + (self._serving.crashes if self._serving else 0)

    @property
    def pid(self) -> int | None:
        """The serving model's process; None without one."""
        return self._serving.pid if self._serving else None

    @property
    def blueprint(self) -> Blueprint | None:
        """Of the model that serves; None without one."""
        return self._serving.blueprint if self._serving else None

    @property
    def queued(self) -> int:
        """Frames that sources handed in and that are not settled yet."""
        return sum(intake.held for intake in self._intakes.values())

    def latency_histogram(self) -> tuple[tuple[int, ...], int]:
        """Frames since the start by their latency, in the buckets of `protos.kit.latency`, and its sum, µs."""
        return self._latencies.histogram()

    async def run(self) -> None:
        """Work for ever. Run it once; frames of a cancelled run are not settled, their sources hand them in again."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._infer(), name="inference")
                group.create_task(self._commit(), name="results to the outbox")
        finally:
            self.withdraw()
            leaving = tuple(self._leaving)
            await asyncio.gather(*(model.close() for model in leaving))

    async def use(self, blueprint: Blueprint) -> None:
        """Put this model to work, and answer with it as soon as it is loaded. No frame is dropped or answered twice.

        The one before answers until then, and what it has begun it finishes. Raises BadModel, or OSError.
        """
        started = await self._start(blueprint, self._limits.batch_frames)
        started.on_lost = lambda why: self.tell(happenings.process_ended(blueprint, why))
        self.withdraw()
        self._serving = started
        self._tell()

    def withdraw(self) -> None:
        """Answer with no model: frames that are not yet with it wait for one."""
        if self._serving:
            model, self._serving = self._serving, None
            self._former_crashes += model.crashes
            leaving = self._leaving[model] = asyncio.create_task(model.retire(), name="retire a model")
            leaving.add_done_callback(lambda _: self._leaving.pop(model))

    async def settled(self) -> None:
        """Return when all that is with the model now is settled: its results are durable, or its errors counted."""
        given = tuple(self._work)
        while any(work in self._work for work in given):
            await self._changed.wait()

    @asynccontextmanager
    async def intake(self, source: str, overload: Overload = Overload.WAIT) -> AsyncIterator[Intake]:
        """The queue of one source, for as long as its stream lasts.

        Waits until nothing of an earlier stream is in work, so that the watermark it starts with is final. Raises
        SourceBusy, or ValueError for a name that is none.
        """
        checked_name(source, "source")
        while (before := self._intakes.get(source)) is not None:
            await _parted(before)
            await before.gone()
            self._forget(before)
        watermark = self._outbox.source_watermark(source)
        intake = self._intakes[source] = Intake(source, watermark, self._queue_limit, overload)
        try:
            yield intake
        finally:
            with self._counting(intake):
                intake.leave()
            self._forget(intake)

    async def hand_over(self, intake: Intake, run: FrameRun) -> None:
        """Take frames of a source; returns when they have room in its queue. Frames that cannot fit are refused."""
        with self._counting(intake):
            if self._serving and (problem := rules.unusable(run.pixels, self._serving.blueprint)):
                return intake.refuse(f"frames from {run.first_frame}: {problem}", len(run))
            await intake.put(run)
        return self._tell()

    def stats(self) -> Stats:
        """What happened since the last call."""
        p50, p95 = self._latencies.read()
        before, self._counted = self._counted, (self.inferences, self.errors, self.dropped, self.crashes)
        inferences, errors, dropped, crashes = (now - then for now, then in zip(self._counted, before, strict=True))
        return Stats(inferences, errors, dropped, crashes, p50, p95)

    @contextmanager
    def _counting(self, intake: Intake) -> Iterator[None]:
        """What the source loses within the block."""
        dropped, refused = intake.dropped, intake.refused
        yield
        self.dropped += intake.dropped - dropped
        self.errors += intake.refused - refused

    def _queue_limit(self, frame_bytes: int) -> int:
        return rules.queue_limit(self._limits.queue_frames, frame_bytes, self._serving.cost if self._serving else None)

    async def _infer(self) -> None:
        while True:
            if self._serving and (work := self._next(self._serving)):
                self._begin(work, self._serving)
            else:
                await self._changed.wait()

    def _next(self, model: Answering) -> _Work | None:
        """What is to be tried again, or new frames of the first source in turn, which goes to the end.

        None if the model has enough for now, or there is nothing.
        """
        limit = rules.batch_limit(model.cost, self._limits.latency_ms * 1000, model.most)
        least = rules.least_begun(self._with_model, self._frames_with_model, model.cost, limit)
        if least is None:
            return None
        if self._again:
            return self._again.popleft()
        intake = next((intake for intake in self._intakes.values() if intake.waiting >= least), None)
        if intake is None:
            return None
        self._intakes[intake.source] = self._intakes.pop(intake.source)
        work = _Work(intake, intake.take(limit))
        self._work.append(work)
        return work

    def _begin(self, work: _Work, model: Answering) -> None:
        blueprint = model.blueprint
        if problem := rules.misfit(work.batch.frame_bytes, blueprint.frame_shape, blueprint.frame_dtype.itemsize):
            return self._fail(work, problem)
        self._with_model += 1
        self._frames_with_model += len(work.batch)
        model.answer(work.batch).add_done_callback(partial(self._answered, work, blueprint))
        return None

    def _answered(self, work: _Work, blueprint: Blueprint, future: asyncio.Future[Outcome]) -> None:
        self._with_model -= 1
        self._frames_with_model -= len(work.batch)
        outcome = future.result()
        if not outcome.problem:
            work.outcome, work.blueprint = outcome, blueprint
            return self._tell()
        if outcome.tried:
            work.tries += 1
            log.warning(
                "inference failed",
                source=work.batch.source,
                frames=len(work.batch),
                last_frame=work.batch.last_frame,
                model=blueprint.model,
                version=blueprint.version,
                error=outcome.problem,
            )
        if work.tries == TRIES:
            return self._fail(work, outcome.problem)
        self._again.append(work)
        return self._tell()

    def _fail(self, work: _Work, problem: str) -> None:
        first, last = work.batch.runs[0].first_frame, work.batch.last_frame
        work.outcome = Outcome(problem=f"frames {first} to {last} have no result: {problem}")
        self._tell()

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._ready():
                await self._changed.wait()
                continue
            if wait_s := rules.gather_s(loop.time() - self._committed, more_coming=self._with_model > 0):
                await asyncio.sleep(wait_s)
            self._committed = loop.time()
            ready = self._ready()
            batches = [_new(work) for work in ready]
            await self._store(batches)
            for listener in self._listeners:
                for batch in batches:
                    listener(batch)
            for work in ready:
                self._work.popleft()
                self._settle(work)
            self._tell()

    def _ready(self) -> list[_Work]:
        return list(takewhile(lambda work: work.outcome, self._work))

    def _settle(self, work: _Work) -> None:
        assert work.outcome, "only what has an outcome is committed"
        if work.outcome.problem:
            self.errors += len(work.batch)
        else:
            self.inferences += len(work.batch)
            self._latencies.add(work.batch, work.outcome.ended_ns)
        work.intake.settle(work.batch, work.outcome.problem)
        self._forget(work.intake)
        if work.blueprint and self._watchers:
            self._show(Answered(work.batch, work.outcome, work.blueprint))

    def _show(self, answered: Answered) -> None:
        for watcher in tuple(self._watchers):
            try:
                watcher(answered)
            except Exception:
                log.exception("what watches results failed, and is left out from now on")
                self._watchers.remove(watcher)

    async def _store(self, batches: Sequence[NewBatch]) -> None:
        """All in one commit, however long it takes until there is room: the sources wait as long."""
        while True:
            try:
                return await asyncio.to_thread(self._outbox.append, batches)
            except OutboxFailed as error:
                log.error("results not durable yet", batches=len(batches), error=str(error))
                self.tell(happenings.not_durable(error))
                await asyncio.sleep(OUTBOX_RETRY_S)

    def _forget(self, intake: Intake) -> None:
        if intake.left and not intake.in_work and self._intakes.get(intake.source) is intake:
            del self._intakes[intake.source]

    def _tell(self) -> None:
        # A pulse: whoever waits looks again; whoever comes later looks first and does not miss it.
        self._changed.set()
        self._changed.clear()


def _new(work: _Work) -> NewBatch:
    assert work.outcome, "only what has an outcome is committed"
    count = len(work.batch) if work.outcome.payload else 0
    return NewBatch(count, work.outcome.payload, work.batch.source, work.batch.last_frame)


async def _parted(intake: Intake) -> None:
    try:
        async with asyncio.timeout(PARTING_S):
            await intake.parted()
    except TimeoutError:
        raise SourceBusy(f"source {intake.source!r} already has a stream: end that one, or use another name") from None
