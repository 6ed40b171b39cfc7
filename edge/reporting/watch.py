"""What only shows when one looks: alarms that begin and end, results that the outbox has dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from edge.foundation.events import Event, Severity, Tell
from edge.reporting import rules
from edge.uplink.outbox import Outbox

LOOK_S = 1.0


class Watch:
    """Looks once a second, off the way of results, and tells what has changed. outbox: of results."""

    def __init__(self, alarms: Callable[[], Sequence[str]], outbox: Outbox, tell: Tell) -> None:
        self._alarms_now = alarms
        self._outbox = outbox
        self._tell = tell
        self._alarms: Mapping[str, str] = {}
        self._dropped = 0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """At everything, once."""
        self._look_at_alarms()
        self._look_at_outbox()

    def _look_at_alarms(self) -> None:
        before, self._alarms = self._alarms, {rules.sameness(text): text for text in self._alarms_now()}
        for same in self._alarms.keys() - before.keys():
            self._tell(Event("alarm.began", self._alarms[same], Severity.WARNING, about=same))
        for same in before.keys() - self._alarms.keys():
            self._tell(Event("alarm.ended", before[same], about=same))

    def _look_at_outbox(self) -> None:
        ledger = self._outbox.ledger
        if ledger.dropped > self._dropped:
            text = f"the outbox is full: {ledger.dropped} results of its epoch were dropped before they were sent"
            # Numbered, since a new life finds the same count and must not tell it again.
            series, number = str(ledger.epoch), ledger.dropped
            self._tell(Event("uplink.results_dropped", text, Severity.ERROR, series=series, number=number))
        self._dropped = ledger.dropped
