"""The updater: one loop that brings this device from what it runs to what is desired, whatever happens on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace

import structlog

from edge.foundation import events
from edge.foundation.disk import told
from edge.foundation.events import Severity, Tell, untold
from edge.models.entities import WrongStep
from edge.update import deployment, happenings, receipts, rules
from edge.update.entities import Delayed, Desired, Effect, Event, Progress, Recalled, Running, State, Target, Update
from edge.update.memory import Memory
from edge.update.receipts import Sign
from edge.update.rules import Effects, decide
from edge.update.steps import Steps
from edge.update.variants import Table

log = structlog.get_logger()


class Updater:
    """The newest deployment of one slot, from its arrival to its receipt.

    Every change is remembered durably before it is acted upon, and `on_change` is called after it; `tell` hears what
    became of the deployment.
    """

    def __init__(self, device: str, memory: Memory, steps: Steps, sign: Sign, clock_ms: Callable[[], int]) -> None:
        self._device = device
        self._memory = memory
        self._steps = steps
        self._sign = sign
        self._clock_ms = clock_ms
        self._newer: Target | None = None
        self._recall: asyncio.Future[None] | None = None
        self._bell = asyncio.Event()
        self.update = memory.load()
        self.notice = ""
        self.on_change: Callable[[], None] = lambda: None
        self.tell: Tell = untold
        steps.on_change = self._changed

    @property
    def running(self) -> Running | None:
        """The model that answers the frames now."""
        return self._steps.running

    @property
    def table(self) -> Table | None:
        """What was measured of the running version's variants; None: there was nothing to choose from."""
        return self._steps.table

    @property
    def progress(self) -> Progress:
        """How much of the artifact is here."""
        return self._steps.progress

    def desire(self, target: Target) -> None:
        """Have a verified deployment carried out; it takes the place of the one at work.

        Raises NotForUs for an old generation, Expired for one that came too late.
        """
        newer = self._newer.generation if self._newer else 0
        # What was lost with a damaged file may be asked for again, nothing older.
        known = max(self.update.generation, newer, self._memory.floor - 1)
        deployment.check_generation(target, known)
        try:
            deployment.check_expiry(target, self._clock_ms(), self.update.target.issued_ms if self.update.target else 0)
        except deployment.Expired as error:
            self._tell(str(error))
            raise
        self._newer = target
        self._bell.set()

    async def recall(self) -> None:
        """Go back to the model that was committed before, now. A later generation of what is desired takes over again.

        Raises WrongStep if there is none, OSError if that cannot be written down; then nothing has changed.
        """
        if self._recall is None:
            self._recall = asyncio.get_running_loop().create_future()
            self._bell.set()
        await asyncio.shield(self._recall)

    async def serve(self) -> None:
        """Have the committed model answer. It needs neither broker nor cloud."""
        await self._steps.serve_committed()
        if not self.running and self.update.proven:
            self._tell("no committed model can be used on this device")

    async def run(self) -> None:
        """Go on where the last run ended, then do what is desired, until cancelled."""
        running = self.running.manifest if self.running else b""
        found = rules.discrepancy(self.update, self._steps.recalled, running)
        effects = await self._apply(found or rules.resumption(self.update))
        while True:
            event = await self._next(effects)
            effects = await (self._apply(event) if event else self._go_back(effects))

    async def _next(self, effects: Effects) -> Event | None:
        """What happens next: the work at hand comes to an event, unless a newer deployment arrives before.

        None: a person wants the former model back.
        """
        if not effects:
            await self._bell.wait()
        elif (event := await self._unless_newer(self._work(effects))) is not None:
            return event
        return None if self._recall else self._arrived()

    async def _unless_newer(self, work: Coroutine[None, None, Event]) -> Event | None:
        task = asyncio.create_task(work, name="update step")
        bell = asyncio.create_task(self._bell.wait(), name="newer deployment")
        try:
            await asyncio.wait({task, bell}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            bell.cancel()
            task.cancel()  # does nothing to a task that is done
            await asyncio.wait({task, bell})
        return None if task.cancelled() else task.result()

    def _arrived(self) -> Desired:
        assert self._newer, "the bell rings for a newer deployment only"
        target, self._newer = self._newer, None
        self._bell.clear()
        self.notice = ""
        return Desired(target)

    async def _go_back(self, effects: Effects) -> Effects:
        """As a person has told. Returns the work that is left to do: what it was before if there is no way back."""
        asked, self._recall = self._recall, None
        assert asked, "the bell rings for a person, too"
        if not self._newer:
            self._bell.clear()
        try:
            await self._steps.recall(in_use=self.update.state in {State.STAGED, State.TRIAL})
        except (WrongStep, OSError) as error:
            asked.set_exception(error)
            return effects
        effects = await self._apply(Recalled(rules.RECALLED))
        asked.set_result(None)
        return effects

    async def _work(self, effects: Effects) -> Event:
        if Effect.PAUSE in effects:
            await asyncio.sleep(rules.pause_s(self.update.attempts, random.random()))  # noqa: S311 - jitter
        return await self._steps.perform(effects[-1], self.update)

    async def _apply(self, event: Event) -> Effects:
        """Decide, go back to the former model if need be, remember, tell. Returns the work that is left to do."""
        update, effects = decide(self.update, event, self._clock_ms())
        if Effect.GO_BACK in effects:
            await self._steps.go_back()
        if Effect.SIGN in effects:
            update = replace(update, receipt=receipts.issue(update, self._device, self._clock_ms(), self._sign))
        if not isinstance(event, Delayed):
            await self._remember(update)
        self.update = update
        self._log(event)
        if told := happenings.of(update, event):
            self.tell(told)
        self._changed()
        return tuple(effect for effect in effects if effect not in {Effect.GO_BACK, Effect.SIGN})

    async def _remember(self, update: Update) -> None:
        """Nothing is done before it is remembered: a full disk is waited for."""
        attempts = 0
        while True:
            try:
                return await asyncio.to_thread(self._memory.save, update)
            except OSError as error:
                text = f"the state of the update cannot be written: {told(error)}"
                self._tell(text)
                self.tell(happenings.named(update, events.Event("update.not_written", text, Severity.ERROR)))
                await asyncio.sleep(rules.pause_s(attempts, random.random()))  # noqa: S311 - jitter
                attempts += 1

    def _tell(self, notice: str) -> None:
        self.notice = notice
        self._changed()

    def _changed(self) -> None:
        self.on_change()

    def _log(self, event: Event) -> None:
        target = self.update.target
        level = log.warning if self.update.reason else log.info
        level(
            "update",
            slot=target.slot if target else "",
            came=type(event).__name__,
            state=self.update.state.value,
            model=target.model if target else "",
            version=target.version if target else 0,
            generation=self.update.generation,
            rollout=target.rollout if target else "",
            reason=self.update.reason,
        )
