"""What a ModelRollout means: what is done for it, and what its status says."""

from __future__ import annotations

import pytest
from cluster_kit import GATES, UID, overview, spec, thing

from cloud.cluster import rules
from cloud.cluster.conditions import patch
from cloud.cluster.entities import Begin, Refusal, Tell
from cloud.rollouts.entities import Abort, Amend, Gates, Pause, Resume, State
from cloud.rollouts.service import new_id

PREFIX = rules.prefix(UID)
FIRST, SECOND = f"{PREFIX}1-1", f"{PREFIX}2-1"
NOW, LATER = "2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"


def acts(mine: list[object], **given: object) -> list[object]:
    return list(rules.acts(UID, rules.read(spec(**given)), mine))  # type: ignore[arg-type]


def test_a_new_object_begins_its_first_rollout() -> None:
    assert acts([]) == [Begin(FIRST)]


@pytest.mark.parametrize("state", list(State))
def test_applied_again_nothing_is_done_whatever_became_of_the_rollout(state: State) -> None:
    assert acts([overview(FIRST, state=state)], paused=state is State.PAUSED) == []


@pytest.mark.parametrize("version", [1, 3])
def test_another_version_higher_or_lower_is_a_rollout_in_the_place_of_the_one_under_way(version: int) -> None:
    assert acts([overview(FIRST, version=2)], version=version) == [Begin(SECOND, (FIRST,))]
    assert acts([overview(FIRST, version=2, state=State.PAUSED)], version=version) == [Begin(SECOND, (FIRST,))]
    assert acts([overview(FIRST, version=2, state=State.SUCCEEDED)], version=version) == [Begin(SECOND)]


def test_a_version_that_was_there_before_is_rolled_out_again() -> None:
    mine = [overview(SECOND, version=2), overview(FIRST, state=State.SUPERSEDED)]
    assert acts([*mine], version=1) == [Begin(f"{PREFIX}3-1", (SECOND,))]


def test_a_further_attempt_is_a_new_rollout_of_the_same_version() -> None:
    assert acts([overview(FIRST, state=State.FAILED)], attempt=2) == [Begin(f"{PREFIX}2-2")]


def test_pausing_pauses_and_resuming_resumes() -> None:
    assert acts([overview(FIRST)], paused=True) == [Tell(FIRST, Pause())]
    assert acts([overview(FIRST, state=State.PAUSED)]) == [Tell(FIRST, Resume())]


def test_what_is_paused_does_not_begin() -> None:
    assert acts([], paused=True) == []


def test_the_rollout_under_way_is_paused_though_another_version_is_wanted() -> None:
    assert acts([overview(FIRST)], version=2, paused=True) == [Tell(FIRST, Pause())]


def test_other_gates_hold_for_a_rollout_under_way_and_change_nothing_about_one_that_ended() -> None:
    gates = GATES | {"maxFailedShare": 0.5, "soakSeconds": 30}
    wish = Amend(Gates(max_failed_share=0.5, soak_s=30))
    assert acts([overview(FIRST)], gates=gates) == [Tell(FIRST, wish)]
    assert acts([overview(FIRST, state=State.PAUSED)], gates=gates, paused=True) == [Tell(FIRST, wish)]
    assert acts([overview(FIRST, state=State.SUCCEEDED)], gates=gates) == []


def test_a_rollout_of_another_object_or_of_a_person_is_not_among_mine() -> None:
    assert rules.prefix("another uid") != PREFIX
    assert not new_id().startswith(PREFIX[:2])


def test_deleting_aborts_what_is_under_way_or_lets_it_go_on() -> None:
    mine = [overview(SECOND, version=2), overview(FIRST, state=State.SUCCEEDED)]
    assert rules.farewell(rules.read(spec()), mine) == [Tell(SECOND, Abort())]
    assert rules.farewell(rules.read(spec(deletionPolicy="Keep")), mine) == []


def test_waves_may_be_numbers() -> None:
    assert rules.read(spec(waves=[5, "25%", "rest"])).request.waves == ("5", "25%", "rest")


def status(mine: list[object], refusal: Refusal | None = None, **given: object) -> dict[str, object]:
    asked = thing(generation=4, **given)
    return dict(rules.status(asked, rules.read(asked.spec), mine, refusal, NOW))  # type: ignore[arg-type]


def held(found: dict[str, object]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in found["conditions"]}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("state", "phase", "holds"),
    [
        (State.RUNNING, "Progressing", "Reconciling"),
        (State.PAUSED, "Paused", "Reconciling"),
        (State.SUCCEEDED, "Succeeded", "Ready"),
        (State.FAILED, "Failed", "Stalled"),
        (State.ABORTED, "Aborted", "Stalled"),
        (State.SUPERSEDED, "Aborted", "Stalled"),
    ],
)
def test_the_phase_is_the_rollouts_and_one_condition_of_three_holds(state: State, phase: str, holds: str) -> None:
    found = status([overview(FIRST, state=state)])
    assert found["phase"] == phase
    assert found["observedGeneration"] == 4
    courses = {"Ready", "Reconciling", "Stalled"}
    assert held(found) == {"Accepted": "True"} | {name: str(name == holds) for name in courses}


def test_the_status_counts_devices_by_what_became_of_them() -> None:
    found = status([overview(FIRST, succeeded=3, deployed=1, pending=2, held=1, unreachable=1)])
    assert (found["rollout"], found["wave"], found["done"]) == (FIRST, "1/1", "3/8")
    assert found["devices"] == {
        "total": 8,
        "succeeded": 3,
        "failed": 0,
        "rolledBack": 0,
        "incompatible": 0,
        "unreachable": 1,
        "held": 1,
        "superseded": 0,
        "withdrawn": 0,
        "pending": 3,
    }
    assert found["message"] == (
        "digits 1 is proved by 3 of 8 devices; 1 unreachable; 1 held (their nodes are cordoned)"
    )


def test_what_cannot_begin_waits_with_the_reason_and_shows_what_there_is() -> None:
    found = status([overview(FIRST, succeeded=2)], Refusal("UnknownModel", "no digits 9"), version=9)
    assert (found["phase"], found["message"], found["version"]) == ("Pending", "no digits 9", 1)
    assert held(found) == {"Accepted": "False", "Ready": "False", "Reconciling": "True", "Stalled": "False"}


def test_a_condition_that_did_not_turn_keeps_its_time() -> None:
    before = status([overview(FIRST)])
    asked = thing(generation=4, status=before)
    after = rules.status(asked, rules.read(asked.spec), [overview(FIRST, state=State.SUCCEEDED)], None, LATER)
    times = {one["type"]: one["lastTransitionTime"] for one in after["conditions"]}
    assert times == {"Accepted": NOW, "Stalled": NOW, "Ready": LATER, "Reconciling": LATER}


def test_a_status_that_says_the_same_is_not_written() -> None:
    before = status([overview(FIRST, succeeded=2)])
    asked = thing(generation=4, status=before)
    again = rules.status(asked, rules.read(asked.spec), [overview(FIRST, succeeded=2)], None, LATER)
    assert patch(before, again) == {}


def test_what_has_no_value_any_more_is_removed() -> None:
    assert patch({"rollout": "k-1", "phase": "Failed"}, {"phase": "Pending"}) == {"rollout": None, "phase": "Pending"}


def test_only_an_ended_rollout_of_the_spec_as_it_is_is_settled() -> None:
    ended = {"phase": "Succeeded", "observedGeneration": 4}
    assert rules.is_settled(thing(generation=4, status=ended))
    assert not rules.is_settled(thing(generation=5, status=ended))
    assert not rules.is_settled(thing(generation=4, status=ended | {"phase": "Progressing"}))
