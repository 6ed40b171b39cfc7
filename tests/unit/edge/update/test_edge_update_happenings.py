"""What is told of an update's end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.foundation.events import Severity
from edge.update import happenings, rules
from edge.update.entities import Broke, Decayed, Held, Restarted, State, Target, Update

TARGET = Target("default", "digits", 3, b"m" * 32, 7, issued_ms=1, expires_ms=2, rollout="r")
ENDS = [State.COMMITTED, State.REFUSED, State.ROLLED_BACK]


def ended(state: State, reason: str = "") -> Update:
    return Update(state, TARGET, reason=reason, since_ms=99)


@pytest.mark.parametrize(
    ("update", "kind", "severity"),
    [
        (ended(State.COMMITTED), "update.committed", Severity.INFO),
        (ended(State.REFUSED, "golden vectors: 4 of 4 wrong"), "update.refused", Severity.WARNING),
        (ended(State.ROLLED_BACK, "3 frames had no result"), "update.rolled_back", Severity.WARNING),
        (ended(State.ROLLED_BACK, rules.RECALLED), "update.recalled", Severity.INFO),
    ],
)
def test_an_end_is_told_with_its_reason_and_what_it_is_about(update: Update, kind: str, severity: Severity) -> None:
    told = happenings.of(update, Held())
    assert told
    assert (told.kind, told.severity) == (kind, severity)
    assert (told.slot, told.model, told.version, told.happened_ms) == ("default", "digits", 3, 99)
    assert told.text == (update.reason or "digits version 3 is committed")


@pytest.mark.parametrize("state", [state for state in State if state not in ENDS])
def test_an_update_on_its_way_is_no_event(state: State) -> None:
    assert happenings.of(ended(state), Restarted()) is None


@pytest.mark.parametrize("state", ENDS)
def test_a_new_life_tells_the_same_end_under_the_same_number(state: State) -> None:
    before, after = happenings.of(ended(state), Broke("")), happenings.of(ended(state), Restarted())
    assert before
    assert after
    assert (before.series, before.number) == (after.series, after.number) == ("default", 7)


def test_a_later_generation_has_a_higher_number() -> None:
    later = replace(ended(State.COMMITTED), target=replace(TARGET, generation=8))
    told = happenings.of(later, Held())
    assert told
    assert told.number == 8


def test_a_model_that_decayed_is_an_error() -> None:
    told = happenings.of(ended(State.DOWNLOADING, rules.DECAYED), Decayed(rules.DECAYED))
    assert told
    assert (told.kind, told.severity, told.text) == ("update.decayed", Severity.ERROR, rules.DECAYED)


def test_to_run_no_model_as_desired_is_told_so() -> None:
    told = happenings.of(Update(State.COMMITTED, replace(TARGET, manifest=b"")), Held())
    assert told
    assert told.text == "no model runs, as desired"
