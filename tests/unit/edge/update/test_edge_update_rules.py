from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.update import rules
from edge.update.entities import (
    Broke,
    Delayed,
    Desired,
    Effect,
    Event,
    Held,
    IllegalEvent,
    Obtained,
    Proof,
    Proved,
    Restarted,
    Settled,
    State,
    TakenOver,
    Target,
    Unfit,
    Update,
)
from edge.update.rules import decide

WORK = {Effect.OBTAIN, Effect.PROVE, Effect.TAKE_OVER, Effect.HOLD}


def target(generation: int, manifest: bytes = b"m" * 32) -> Target:
    return Target("default", "digits", 1, manifest, generation, issued_ms=1, expires_ms=2, rollout="")


def proof(manifest: bytes = b"m" * 32) -> Proof:
    return Proof(manifest, b"a" * 32, "int8", b"g" * 32)


def played(*events: Event, start: Update | None = None) -> Update:
    update = start or Update()
    for event in events:
        update, _ = decide(update, event, 0)
    return update


COMMITTED = (Desired(target(1)), Obtained(), Proved(proof()), TakenOver(), Held())

reasons = st.sampled_from(["link down", "disk full"])
generations = st.integers(0, 6)
events = st.one_of(
    st.builds(Desired, generations.map(target)),
    st.builds(Settled, st.sampled_from([proof(), None])),
    st.builds(Proved, st.just(proof())),
    st.sampled_from([Obtained(), TakenOver(), Held(), Restarted()]),
    st.builds(Unfit, reasons),
    st.builds(Broke, reasons),
    st.builds(Delayed, reasons),
)


@given(st.lists(events, max_size=40))
def test_any_events_keep_generations_rising_and_end_each_at_most_once(sequence: list[Event]) -> None:
    update, ended = Update(), set()
    for event in sequence:
        before = update
        try:
            update, effects = decide(before, event, 7)
        except IllegalEvent:
            assert update is before
            continue
        assert update.generation >= before.generation
        assert (Effect.SIGN in effects) == (update.state.is_final and not before_same(before, update))
        if Effect.SIGN in effects:
            assert update.generation not in ended
            ended.add(update.generation)


def before_same(before: Update, after: Update) -> bool:
    return before.state.is_final and before.generation == after.generation


@given(st.lists(events, max_size=40))
def test_every_unfinished_state_has_exactly_one_piece_of_work_to_do_next(sequence: list[Event]) -> None:
    update = Update()
    for event in sequence:
        try:
            update, effects = decide(update, event, 7)
        except IllegalEvent:
            continue
        work = [effect for effect in effects if effect in WORK]
        waits = update.state.is_final or update.state is State.IDLE
        assert len(work) == (0 if waits else 1)
        assert not work or effects[-1] is work[0]


@given(st.lists(events, max_size=40))
def test_a_model_counts_as_proven_only_after_it_held(sequence: list[Event]) -> None:
    update = Update()
    for event in sequence:
        before = update
        try:
            update, _ = decide(before, event, 7)
        except IllegalEvent:
            continue
        assert update.proven == before.proven or isinstance(event, Held | Settled)


def test_every_state_is_in_the_table_and_every_state_but_the_first_can_be_reached() -> None:
    reached = {state for moves in rules.TABLE.values() for state, _ in moves.values()}
    assert set(rules.TABLE) == set(State) == reached


def test_a_good_model_goes_from_desired_to_committed() -> None:
    update = played(*COMMITTED)
    assert (update.state, update.generation, update.proven) == (State.COMMITTED, 1, proof())


@pytest.mark.parametrize("generation", [0, 1])
def test_an_old_generation_changes_nothing(generation: int) -> None:
    with pytest.raises(IllegalEvent, match="generation"):
        decide(played(*COMMITTED), Desired(target(generation)), 0)


@pytest.mark.parametrize("steps", [3, 4])
def test_a_newer_generation_takes_a_model_out_of_use_that_has_not_held(steps: int) -> None:
    update, effects = decide(played(*COMMITTED[:steps]), Desired(target(2)), 0)
    assert (update.state, effects) == (State.DOWNLOADING, (Effect.GO_BACK, Effect.OBTAIN))


def test_a_newer_generation_forgets_the_reason_proof_and_receipt_of_the_older() -> None:
    refused = replace(played(Desired(target(1)), Unfit("wrong")), receipt=b"signed")
    update, _ = decide(refused, Desired(target(2)), 9)
    assert update == Update(State.DOWNLOADING, target(2), since_ms=9)


def test_a_passing_problem_is_shown_and_tried_again_without_an_end() -> None:
    update, effects = decide(played(Desired(target(1))), Delayed("link down"), 0)
    assert (update.state, update.reason, update.attempts) == (State.DOWNLOADING, "link down", 1)
    assert effects == (Effect.PAUSE, Effect.OBTAIN)


def test_progress_clears_the_reason_of_a_passing_problem() -> None:
    update = played(Desired(target(1)), Delayed("link down"), Obtained())
    assert (update.reason, update.attempts) == ("", 0)


def test_a_model_that_breaks_in_its_trial_goes_back() -> None:
    update, effects = decide(played(*COMMITTED[:4]), Broke("3 errors"), 0)
    assert (update.state, update.reason, effects) == (State.ROLLED_BACK, "3 errors", (Effect.GO_BACK, Effect.SIGN))


def test_a_restart_in_the_middle_begins_again_with_what_is_on_the_device() -> None:
    update = played(*COMMITTED[:4])
    assert decide(update, rules.resumption(update), 0) == (
        replace(update, state=State.DOWNLOADING),
        (Effect.OBTAIN,),
    )


def test_a_restart_after_the_end_does_nothing() -> None:
    update = played(*COMMITTED)
    assert decide(update, rules.resumption(update), 5) == (update, ())


def test_a_model_that_ends_the_agent_whenever_it_is_used_is_rolled_back() -> None:
    update = played(Desired(target(1)))
    for _ in range(rules.MOST_TAKEOVERS):
        update = played(Obtained(), Proved(proof()), start=update)
        event = rules.resumption(update)
        update, _ = decide(update, event, 0)
    assert isinstance(event, Broke)
    assert update.state is State.ROLLED_BACK


def test_a_full_disk_in_the_take_over_is_not_held_against_the_model() -> None:
    update = played(Desired(target(1)))
    for _ in range(2 * rules.MOST_TAKEOVERS):
        update = played(Obtained(), Proved(proof()), Delayed("disk full"), start=update)
    update = played(Obtained(), Proved(proof()), start=update)
    assert isinstance(rules.resumption(update), Restarted)


def test_the_time_of_a_state_is_when_it_was_entered() -> None:
    update, _ = decide(Update(), Desired(target(1)), 10)
    update, _ = decide(update, Delayed("link down"), 20)
    assert update.since_ms == 10


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_never_zero_and_never_above_its_limit(attempts: int, randomness: float) -> None:
    assert 0 < rules.pause_s(attempts, randomness) <= rules.LONGEST_PAUSE_S
