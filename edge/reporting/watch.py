"""What only shows when one looks: alarms that begin and end, results that the outbox dropped, a challenger's end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from edge.foundation.events import Event, Severity, Tell
from edge.reporting import rules
from edge.reporting.service import Parts

LOOK_S = 1.0


class Watch:
    """Looks at the parts once a second, off the way of results, and tells what has changed."""

    def __init__(self, parts: Parts, tell: Tell) -> None:
        self._parts = parts
        self._tell = tell
        self._alarms: Mapping[str, str] = {}
        self._dropped = 0
        self._ended = ""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """At everything, once."""
        self._look_at_alarms()
        self._look_at_outbox()
        self._look_at_challenger()

    def _look_at_alarms(self) -> None:
        before, self._alarms = self._alarms, {rules.sameness(text): text for text in self._parts.alarms()}
        for same in self._alarms.keys() - before.keys():
            self._tell(Event("alarm.began", self._alarms[same], Severity.WARNING, about=same))
        for same in before.keys() - self._alarms.keys():
            self._tell(Event("alarm.ended", before[same], about=same))

    def _look_at_outbox(self) -> None:
        ledger = self._parts.outbox.ledger
        if ledger.dropped != self._dropped and ledger.dropped:
            text = f"the outbox is full: {ledger.dropped} results of its epoch were dropped before they were sent"
            # Numbered, since a new life finds the same count and must not tell it again.
            epoch = str(ledger.epoch)
            told = Event("uplink.results_dropped", text, Severity.ERROR, series=epoch, number=ledger.dropped)
            self._tell(told)
        self._dropped = ledger.dropped

    def _look_at_challenger(self) -> None:
        challenger = self._parts.challenger
        if challenger is None:
            return
        before, self._ended = self._ended, challenger.shadow.ended
        target = challenger.updater.update.target
        if self._ended and self._ended != before and target:
            slot, generation = target.slot, target.generation
            told = Event("shadow.ended", self._ended, Severity.WARNING, slot, target.model, target.version)
            self._tell(replace(told, series=slot, number=generation))
