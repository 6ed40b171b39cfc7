"""Runs a challenger on frames that the champion has answered, and compares. It is `edge.update.watch.Serving`.

The champion's results are durable and told before a challenger sees their frames. It has a process of its own at the
lowest priority and one micro-batch at a time; whatever goes wrong with it ends it, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import structlog

from edge.foundation import clock, disk
from edge.foundation.events import Event, Severity, Tell, untold
from edge.foundation.threads import finished
from edge.inference import rules as inference_rules
from edge.inference import supervisor
from edge.inference.answering import Answering, Start
from edge.inference.entities import Answered, BadModel, Blueprint, MicroBatch, Outcome
from edge.shadow import rules
from edge.shadow.comparison import Tally
from edge.shadow.disagreements import Folder, Keep, selected
from edge.shadow.record import Record
from edge.shadow.rules import Chosen
from edge.update.entities import Target
from protos.kit import columns
from protos.kit.columns import Results
from protos.v1.sketches_pb2 import Comparison
from protos.v1.uplink_pb2 import UplinkMessage

HANG_S = 60.0
"""A challenger has a processor when nobody else wants one: it may take longer for that, and is not hung."""

log = structlog.get_logger()

start: Start = partial(supervisor.start, hang_s=HANG_S)


@dataclass(frozen=True, slots=True)
class Ports:
    """desired: the newest deployment of a challenger. offer: takes what is to be sent. keep: takes disagreements.

    tell: takes what a person should know.
    """

    desired: Callable[[], Target | None]
    offer: Callable[[UplinkMessage], None]
    folder: Folder
    keep: Keep
    tell: Tell = untold


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Frames that are with a challenger. part: of what the champion answered, the frames at chosen.start and on."""

    worker: Answering
    tally: Tally
    answered: Answered
    part: MicroBatch
    chosen: Chosen


class Shadow:
    """One champion's challenger.

    errors: its frames that had no result since the start. `on_ended` is called when a challenger has ended for good.
    """

    def __init__(self, slot: str, record: Record, ports: Ports, every_s: float, start: Start = start) -> None:
        self._slot = slot
        self._record = record
        self._ports = ports
        self._every_s = every_s
        self._start = start
        self._worker: Answering | None = None
        self._leaving: list[Answering] = []
        self._told = record.load()
        self._saved = Comparison()
        self._tally: Tally | None = None
        self._asked = 0
        self._credit = 0.0
        self._turns = 0
        self._bell = asyncio.Event()
        self._answered = asyncio.Event()
        self.on_ended: Callable[[], None] = lambda: None
        self.errors = 0
        self._former_crashes = 0

    @property
    def ended(self) -> str:
        """Why the challenger that is desired does not run any more."""
        target = self._ports.desired()
        return self._told.ended if target and self._told.generation == target.generation else ""

    @property
    def pid(self) -> int | None:
        """The challenger's process; None without one."""
        return self._worker.pid if self._worker else None

    @property
    def crashes(self) -> int:
        """Ends of its process since the start."""
        return self._former_crashes + (self._worker.crashes if self._worker else 0)

    # As a place where a model is put to use.

    async def use(self, blueprint: Blueprint) -> None:
        """Run this challenger, if it is the one desired and has not ended before. Raises BadModel, or OSError."""
        target = self._ports.desired()
        if target is None or target.manifest != blueprint.manifest:
            raise BadModel("it is not the challenger that is desired now")
        if self.ended:
            raise BadModel(self.ended)
        started = await self._start(replace(blueprint, background=True), rules.MOST_FRAMES)
        self.withdraw()
        self._worker = started
        self._credit = 0.0

    def withdraw(self) -> None:
        """Run no challenger."""
        if self._worker:
            self._former_crashes += self._worker.crashes
            self._leaving.append(self._worker)
            self._worker = None
            self._tally = None
            self._bell.set()

    async def settled(self) -> None:
        """Return when what is with the challenger now is answered."""
        while self._asked:
            self._answered.clear()
            await self._answered.wait()

    # Its work.

    def take(self, answered: Answered) -> None:
        """Frames that the champion has answered; a share of them the challenger answers, too."""
        worker, target = self._worker, self._ports.desired()
        if worker is None or target is None or target.manifest != worker.blueprint.manifest:
            return None
        champion = answered.blueprint
        fits = answered.batch.frame_bytes == worker.blueprint.frame_bytes
        if reason := rules.must_end(champion.manifest, worker.blueprint.manifest, fits=fits):
            return self._end(reason)
        tally = self._tally_of(champion.manifest, worker.blueprint.manifest, target)
        tally.offer(len(answered.batch))
        most = 0 if self._asked else inference_rules.batch_limit(worker.cost, rules.BOUND_US, worker.most)
        chosen = rules.choose(self._credit, len(answered.batch), target.share, most, self._turns)
        self._credit = chosen.credit
        return self._ask(worker, tally, answered, chosen) if chosen.start < chosen.stop else None

    async def run(self) -> None:
        """Save and send the comparison from time to time, and end what is to end, until cancelled."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await self._bell.wait()
                self._bell.clear()
                if self._worker and self._worker.crashes and not self._asked:  # else its frames will tell why
                    self._end("its process ended by itself")
                await self._close()
                await self._tell()
        finally:
            await self._tell()
            self.withdraw()
            await self._close()

    def _ask(self, worker: Answering, tally: Tally, answered: Answered, chosen: Chosen) -> None:
        self._turns += 1
        part = part_of(answered.batch, chosen.start, chosen.stop)
        self._asked += 1
        asked = _Asked(worker, tally, answered, part, chosen)
        worker.answer(part).add_done_callback(partial(self._compared, asked))

    def _compared(self, asked: _Asked, future: asyncio.Future[Outcome]) -> None:
        self._asked -= 1
        self._answered.set()
        if asked.worker is not self._worker or asked.tally is not self._tally:
            return  # it was withdrawn meanwhile, or has another champion
        try:
            outcome = future.result()
            if outcome.problem:
                self.errors += len(asked.part)
                self._end(outcome.problem)
            else:
                self._count(asked, outcome)
        except Exception as error:
            log.exception("the comparison failed")
            self._end(f"the comparison failed: {type(error).__name__}: {error}")

    def _count(self, asked: _Asked, outcome: Outcome) -> None:
        answered, part, chosen = asked.answered, asked.part, asked.chosen
        whole = columns.decode(answered.outcome.payload, len(answered.batch))
        champion = selected(whole, slice(chosen.start, chosen.stop))
        challenger = columns.decode(outcome.payload, len(part))
        costs_us = answered.outcome.model_ns / 1000 / len(answered.batch), outcome.model_ns / 1000 / len(part)
        disagree = asked.tally.add(champion, challenger, *costs_us)
        if disagree.any():
            self._keep(part, disagree, champion, challenger)

    def _keep(self, part: MicroBatch, disagree: np.ndarray, champion: Results, challenger: Results) -> None:
        frames = np.concatenate([run.pixels for run in part.runs])[disagree]
        self._ports.keep(frames, selected(champion, disagree), selected(challenger, disagree))

    def _tally_of(self, champion: bytes, challenger: bytes, target: Target) -> Tally:
        """What these two are counted in; the one from before a restart goes on."""
        tally = self._tally
        if tally is None or (tally.champion, tally.generation) != (champion, target.generation):
            known = (self._told.generation, self._told.champion, self._told.challenger)
            if known != (target.generation, champion, challenger):
                self._told = Comparison(
                    slot=self._slot,
                    generation=target.generation,
                    champion=champion,
                    challenger=challenger,
                    began_ms=clock.now_ms(),
                )
            self._told.share = target.share
            self._tally = tally = Tally(self._told)
        return tally

    def _end(self, reason: str) -> None:
        """The challenger is done for, whatever comes; remembered, so that it is not started again either."""
        worker, target = self._worker, self._ports.desired()
        assert worker, "only what runs can end"
        blueprint = worker.blueprint
        log.warning("the challenger has ended", model=blueprint.model, version=blueprint.version, reason=reason)
        named = self._slot, blueprint.model, blueprint.version
        self._ports.tell(Event("shadow.ended", reason, Severity.WARNING, *named))
        if target and target.manifest == blueprint.manifest:  # else it runs only until a newer one is here
            told = self._tally.message(clock.now_ms()) if self._tally else Comparison(slot=self._slot)
            told.generation, told.challenger, told.ended = target.generation, blueprint.manifest, reason
            self._told = told
        self.withdraw()
        self.on_ended()

    async def _close(self) -> None:
        while self._leaving:
            await self._leaving.pop().close()

    async def _tell(self) -> None:
        """Save the comparison and send it, for as long as it is wanted; write down the disagreements."""
        await self._ports.folder.write()
        if self._tally and self._tally.message(self._told.measured_ms) != self._told:
            self._told = self._tally.message(clock.now_ms())
        target = self._ports.desired()
        if target is None or target.generation != self._told.generation:
            return
        told = Comparison()
        told.CopyFrom(self._told)
        self._ports.offer(UplinkMessage(comparison=told))
        try:
            if told != self._saved:
                await finished(self._record.save, told)
                self._saved = told
        except OSError as error:
            log.warning("the comparison is not saved", error=disk.told(error))


def part_of(batch: MicroBatch, start: int, stop: int) -> MicroBatch:
    """The frames at start .. stop - 1 of a micro-batch, by position. No copy."""
    runs, first = [], 0
    for run in batch.runs:
        low, high = max(start - first, 0), min(stop - first, len(run))
        if low < high:
            runs.append(run.part(low, high))
        first += len(run)
    return MicroBatch(batch.source, tuple(runs))
