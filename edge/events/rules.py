"""Which events are told at once, which are counted and told together. Pure.

The first is told at once. The same again within a minute is counted, and told as one at the minute's end; as long as it
goes on, the next is a longer while, up to an hour. So trouble that lasts for days costs an event an hour.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from edge.events.entities import Entry, Recent, Sameness, Told
from edge.foundation.events import Event

FIRST_WAIT_S = 60.0
LONGEST_WAIT_S = 3600.0
MOST_OF_A_KIND = 20
"""Events of a kind that count as different ones at a time; what comes besides is counted together."""


def told(recent: Recent, entry: Entry, now_s: float) -> tuple[Recent, list[Entry]]:
    """What is remembered after an event has come, and what of it is to be written now."""
    same = _sameness(recent, entry.event)
    before = recent.get(same)
    if before is None:
        return {**recent, same: Told(FIRST_WAIT_S, now_s + FIRST_WAIT_S)}, [entry]
    repeats = before.repeats + entry.event.times
    counted = replace(before, repeats=repeats, newest=entry.event, newest_ms=entry.happened_ms)
    return {**recent, same: counted}, []


def due(recent: Recent, now_s: float) -> tuple[Recent, list[Entry]]:
    """What is remembered once the whiles that are over are closed, and the repeats that are to be written then."""
    kept: dict[Sameness, Told] = {}
    found: list[Entry] = []
    for same, one in recent.items():
        if now_s < one.until_s:
            kept[same] = one
        elif one.newest is not None:
            found.append(Entry(replace(one.newest, times=one.repeats), one.newest_ms))
            wait_s = min(2 * one.wait_s, LONGEST_WAIT_S)
            kept[same] = Told(wait_s, now_s + wait_s)
    return kept, found


def all_repeats(recent: Recent) -> list[Entry]:
    """Those that wait to be told together: what is to be written when the agent ends."""
    return [
        Entry(replace(one.newest, times=one.repeats), one.newest_ms)
        for one in recent.values()
        if one.newest is not None
    ]


def _sameness(recent: Recent, event: Event) -> Sameness:
    own = (event.kind, event.slot, event.model, str(event.version), event.about)
    of_kind = Counter(same[0] for same in recent)[event.kind]
    return own if own in recent or of_kind < MOST_OF_A_KIND else (event.kind,)
