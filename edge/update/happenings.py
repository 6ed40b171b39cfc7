"""What is told of an update: how it ended. Pure.

An end is numbered by its generation: the agent may be killed after it was remembered and before it was told, so each
start tells it again, and it is written once.
"""

from __future__ import annotations

from dataclasses import replace

from edge.foundation import events
from edge.foundation.events import Severity
from edge.update import rules
from edge.update.entities import Decayed, Event, State, Update

ENDS = {
    State.COMMITTED: ("update.committed", Severity.INFO),
    State.REFUSED: ("update.refused", Severity.WARNING),
    State.ROLLED_BACK: ("update.rolled_back", Severity.WARNING),
}


def of(update: Update, event: Event) -> events.Event | None:
    """What is to be told of the update after this event; None: it is on its way."""
    if isinstance(event, Decayed):
        return named(update, events.Event("update.decayed", event.reason, Severity.ERROR))
    if update.target is None or update.state not in ENDS:
        return None
    kind, severity = ENDS[update.state]
    if update.reason == rules.RECALLED:
        kind, severity = "update.recalled", Severity.INFO
    end = events.Event(kind, update.reason or _what_runs(update), severity, happened_ms=update.since_ms)
    return named(update, replace(end, series=update.target.slot, number=update.generation))


def named(update: Update, told: events.Event) -> events.Event:
    """What is told, with what it is about."""
    target = update.target
    if target is None:
        return told
    return replace(
        told, slot=target.slot, model=target.model, version=target.version, about=f"generation {target.generation}"
    )


def _what_runs(update: Update) -> str:
    assert update.target, "only a deployment ends"
    if not update.target.manifest:
        return "no model runs, as desired"
    return f"{update.target.model} version {update.target.version} is committed"
