"""A model in a worker process: started again when it crashes, given up when it hangs.

The worker answers in order, so when it ends, the first micro-batch that it owes an answer is the one that it was at;
the others it never began.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from edge.inference import rules
from edge.inference.entities import BadModel, Blueprint, Cost, MicroBatch, Outcome
from edge.inference.messages import Kind, Message
from edge.inference.process import Process
from edge.inference.slots import Layout

SLOTS = rules.MOST_AHEAD
"""Micro-batches with a worker at once."""

HANG_S = 10.0
"""How long a micro-batch may take, unless it has long been known to take longer."""

WATCH_S = 0.25

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Flight:
    """A micro-batch that is with the worker. slot: where its frames lie; None while there is no process."""

    batch: MicroBatch
    outcome: asyncio.Future[Outcome]
    slot: int | None = None

    def end(self, outcome: Outcome) -> None:
        """Tell who waits for it."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Worker:
    """A supervised worker; `start` makes one. It is `edge.inference.answering.Answering`.

    crashes: how often its process ended, or could not be started again.
    """

    def __init__(self, blueprint: Blueprint, layout: Layout, cost: Cost, hang_s: float) -> None:
        self.blueprint = blueprint
        self.cost = cost
        self.most = layout.frames
        self.crashes = 0
        self.on_lost: Callable[[str], None] = lambda _: None
        self._layout = layout
        self._hang_s = hang_s
        self._process: Process | None = None
        self._flights: deque[_Flight] = deque()
        self._free: list[int] = []
        self._failures = 0  # ends without an answer in between
        self._head_since = 0.0
        self._moved = asyncio.Event()
        self._retired = False
        self._tasks = {asyncio.create_task(self._watch(), name="watch over a worker")}

    @property
    def pid(self) -> int | None:
        """The process that answers now; None while it is started again."""
        return self._process.pid if self._process else None

    def answer(self, batch: MicroBatch) -> asyncio.Future[Outcome]:
        """Take a micro-batch of at most `most` frames of the right size."""
        flight = _Flight(batch, asyncio.get_running_loop().create_future())
        self._flights.append(flight)
        if self._process:
            self._send(self._process, flight)
        return flight.outcome

    async def retire(self) -> None:
        """End, once all that it was given is answered."""
        self._retired = True
        while self._flights and self._process:
            await self._moved.wait()
        await self.close()

    async def close(self) -> None:
        """End now; what it has not answered was not tried."""
        self._retired = True
        await asyncio.sleep(0)  # one that was cancelled before its first step would not end its process and its flights
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        process, self._process = self._process, None
        if process:
            await process.end()
        self._fail(self._taken(), "its model was withdrawn", began=False)
        self._tell()

    def adopt(self, process: Process) -> None:
        """Answer by this process from now on."""
        self._process = process
        self._free = list(range(self._layout.slots))
        process.heard, process.lost = self._hear, self._lose
        for flight in self._flights:
            self._send(process, flight)

    def _send(self, process: Process, flight: _Flight) -> None:
        if flight is self._flights[0]:
            self._head_since = asyncio.get_running_loop().time()
        flight.slot = self._free.pop()
        process.ask(flight.slot, flight.batch)

    def _hear(self, message: Message) -> None:
        if self._process is None or not self._flights or message.slot != self._flights[0].slot:
            return self._give_up("answers what it was not asked")
        flight, data = self._flights.popleft(), self._process.result(message)
        self._free.append(message.slot)
        self._head_since = asyncio.get_running_loop().time()
        began_ns, ended_ns, model_ns = message.numbers
        if message.kind is Kind.RESULTS:
            self._failures = 0
            self.cost = rules.observed(self.cost, len(flight.batch), (ended_ns - began_ns) / 1000)
            flight.end(Outcome(data, "", True, began_ns, ended_ns, model_ns))
        else:
            flight.end(Outcome(b"", data.decode(errors="replace"), True, began_ns, ended_ns, model_ns))
        return self._tell()

    def _lose(self) -> None:
        self._give_up("")

    def _give_up(self, why: str) -> None:
        """This process is done for: `why` says what it did; empty: it ended by itself."""
        process, self._process = self._process, None
        if process is None:
            return
        self.crashes += 1
        self._failures += 1
        task = asyncio.create_task(self._revive(process, self._taken(), why), name="revive a worker")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _revive(self, process: Process, flights: list[_Flight], why: str) -> None:
        model, version = self.blueprint.model, self.blueprint.version
        try:
            how = await (process.end(grace_s=0) if why else process.end())
            why = why or how
            log.error("inference worker ended", model=model, version=version, reason=why, batches_with_it=len(flights))
            self.on_lost(f"the process of the model {why}")
        finally:
            self._fail(flights, f"the process of the model {why or 'was given up'}", began=True)
            self._tell()
        while not self._retired:
            await asyncio.sleep(rules.restart_s(self._failures - 1))
            try:
                process, self.cost = await Process.start(self.blueprint, self._layout)
            except (BadModel, OSError) as error:
                self.crashes += 1
                self._failures += 1
                log.error("inference worker not started", model=model, version=version, error=str(error))
                self.on_lost(f"the process of the model could not be started again: {error}")
            else:
                return self.adopt(process)
        return None

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(WATCH_S, self._hang_s / 4))
            if self._process and self._flights:
                waited_s, count = loop.time() - self._head_since, len(self._flights[0].batch)
                if rules.is_hung(waited_s, count, self.cost, self._hang_s):
                    self._give_up(f"hung: {count} frames were not answered in {waited_s:.3g} s")

    def _taken(self) -> list[_Flight]:
        flights = list(self._flights)
        self._flights.clear()
        return flights

    @staticmethod
    def _fail(flights: list[_Flight], problem: str, *, began: bool) -> None:
        for place, flight in enumerate(flights):
            flight.end(Outcome(problem=problem, tried=began and place == 0))

    def _tell(self) -> None:
        self._moved.set()
        self._moved.clear()


async def start(blueprint: Blueprint, most: int, hang_s: float = HANG_S) -> Worker:
    """A worker for micro-batches of `most` frames, fewer if they are large. Raises BadModel, or OSError."""
    frame_bytes = blueprint.frame_bytes
    layout = Layout(SLOTS, rules.slot_frames(most, frame_bytes), frame_bytes)
    process, cost = await Process.start(blueprint, layout)
    worker = Worker(blueprint, layout, cost, hang_s)
    worker.adopt(process)
    return worker
