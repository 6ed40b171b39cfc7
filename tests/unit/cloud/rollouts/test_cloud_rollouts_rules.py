"""A rollout's decisions, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from cloud.rollouts.entities import (
    Abort,
    Deploy,
    DeviceRefused,
    DeviceSucceeded,
    Effect,
    Event,
    Former,
    Gates,
    Given,
    IllegalEvent,
    Incompatible,
    Joined,
    Lease,
    Member,
    MemberState,
    Pause,
    Restore,
    Resume,
    RolledBack,
    Rollout,
    Seen,
    Started,
    State,
    Superseded,
    Tick,
)
from cloud.rollouts.rules import LEASE_MS, contend, decide, origin

MANIFEST = b"m" * 32
OLD = Former(1, "digits", 1, b"o" * 32, "r-old")


def new_rollout(waves: list[list[str]], gates: Gates | None = None) -> Rollout:
    members = {device: Member(device, wave) for wave, devices in enumerate(waves) for device in devices}
    return Rollout(
        id="r-1",
        model="digits",
        version=2,
        manifest=MANIFEST,
        selector={},
        gates=gates or Gates(),
        waves=len(waves),
        members=members,
        created_ms=0,
    )


@dataclass
class Run:
    """A rollout whose effects are carried out at once: every deployment is generation 2 of its device."""

    rollout: Rollout
    now_ms: int = 1000
    effects: list[Effect] = field(default_factory=list)

    def tell(self, *events: Event) -> list[Effect]:
        """What the events led to."""
        new: list[Effect] = []
        for event in events:
            self.rollout, effects = decide(self.rollout, event, self.now_ms)
            new += effects
            for effect in effects:
                if isinstance(effect, Deploy):
                    self.rollout, more = decide(self.rollout, Given(effect.device, 2, OLD), self.now_ms)
                    assert not more
        self.effects += new
        return new

    def wait(self, seconds: float) -> list[Effect]:
        """Time passes, all devices are seen."""
        self.now_ms += int(seconds * 1000)
        return self.tell(Tick())

    def state(self, device: str) -> MemberState:
        """A member's."""
        return self.rollout.members[device].state


def started(waves: list[list[str]], **gates: float) -> Run:
    run = Run(new_rollout(waves, Gates(**gates)))
    run.tell(Started())
    return run


def test_the_first_wave_begins_at_the_start_and_no_other() -> None:
    run = Run(new_rollout([["a"], ["b", "c"]]))
    assert run.tell(Started()) == [Deploy("a")]
    assert run.wait(10) == []


def test_the_next_wave_begins_with_the_proof_of_the_one_before() -> None:
    run = started([["a"], ["b", "c"]])
    assert run.tell(DeviceSucceeded("a", 2)) == [Deploy("b"), Deploy("c")]


def test_a_rollout_has_succeeded_when_its_last_wave_has() -> None:
    run = started([["a"], ["b"]])
    run.tell(DeviceSucceeded("a", 2), DeviceSucceeded("b", 2))
    assert run.rollout.state is State.SUCCEEDED
    assert Restore not in map(type, run.effects)


def test_a_refusal_by_the_canary_stops_the_rollout_and_names_device_and_reason() -> None:
    run = started([["a"], ["b", "c"]])
    assert run.tell(DeviceRefused("a", 2, "golden vector 3 differs")) == [Restore("a")]
    assert run.rollout.state is State.FAILED
    assert "a: golden vector 3 differs" in run.rollout.reason
    assert run.state("b") is MemberState.PENDING


def test_everyone_who_was_given_the_version_goes_back_when_a_later_wave_fails() -> None:
    run = started([["a"], ["b", "c"], ["d"]])
    run.tell(DeviceSucceeded("a", 2))
    assert set(run.tell(RolledBack("b", 2, "errors"))) == {Restore("a"), Restore("b"), Restore("c")}
    assert (run.state("b"), run.state("c")) == (MemberState.ROLLED_BACK, MemberState.WITHDRAWN)


def test_failures_within_the_gate_do_not_stop_it() -> None:
    run = started([["a", "b", "c", "d"], ["e"]], max_failed_share=0.25, min_succeeded_share=0.75)
    run.tell(DeviceRefused("a", 2, "no"), DeviceSucceeded("b", 2), DeviceSucceeded("c", 2))
    assert run.tell(DeviceSucceeded("d", 2)) == [Deploy("e")]


def test_the_rollout_does_not_end_before_everyone_who_can_be_reached_has_answered() -> None:
    run = started([["a", "b"]], min_succeeded_share=0.5)
    run.tell(DeviceSucceeded("a", 2))
    assert run.rollout.state is State.RUNNING
    run.tell(DeviceSucceeded("b", 2))
    assert run.rollout.state is State.SUCCEEDED


def test_a_wave_that_can_no_longer_succeed_fails() -> None:
    run = started([["a", "b"]], max_failed_share=1.0, min_succeeded_share=1.0)
    run.tell(DeviceRefused("a", 2, "no"))
    assert run.rollout.state is State.RUNNING
    run.tell(DeviceSucceeded("b", 2))
    assert run.rollout.state is State.FAILED
    assert "at least 100%" in run.rollout.reason


def test_a_wave_waits_for_its_soak_time_after_its_last_success() -> None:
    run = started([["a"], ["b"]], soak_s=60)
    assert run.tell(DeviceSucceeded("a", 2)) == []
    assert run.wait(59.9) == []
    assert run.wait(0.1) == [Deploy("b")]


def test_a_device_that_goes_back_within_the_soak_time_breaks_the_gate() -> None:
    run = started([["a"], ["b"]], soak_s=60)
    run.tell(DeviceSucceeded("a", 2))
    assert run.tell(RolledBack("a", 2, "ended five times")) == [Restore("a")]
    assert run.rollout.state is State.FAILED


def test_a_device_beyond_its_lease_neither_holds_the_wave_up_nor_counts_as_success() -> None:
    run = started([["a", "b"], ["c"]], lease_s=60)
    run.tell(DeviceSucceeded("a", 2))
    run.now_ms += 61_000
    assert run.tell(Seen("b", online=False, last_seen_ms=1000)) == [Deploy("c")]
    assert run.state("b") is MemberState.UNREACHABLE


def test_an_unreachable_canary_proves_nothing() -> None:
    run = started([["a"], ["b"]], lease_s=60)
    run.now_ms += 3_600_000
    assert run.tell(Seen("a", online=False, last_seen_ms=0)) == []
    assert run.wait(3600) == []
    assert run.rollout.state is State.RUNNING


def test_an_unreachable_device_that_returns_counts_as_succeeded_late() -> None:
    run = started([["a", "b"]], lease_s=60)
    run.now_ms += 61_000
    run.tell(Seen("b", online=False, last_seen_ms=0), DeviceSucceeded("a", 2))
    assert run.rollout.state is State.SUCCEEDED
    run.tell(Seen("b", online=True, last_seen_ms=run.now_ms), DeviceSucceeded("b", 2))
    assert run.state("b") is MemberState.SUCCEEDED


def test_a_returned_device_has_its_whole_time_to_answer_again() -> None:
    run = started([["a"]], lease_s=60, timeout_s=300)
    run.now_ms += 1_000_000
    run.tell(Seen("a", online=False, last_seen_ms=0))
    run.tell(Seen("a", online=True, last_seen_ms=run.now_ms))
    assert run.state("a") is MemberState.DEPLOYED
    run.now_ms += 301_000
    run.tell(Seen("a", online=True, last_seen_ms=run.now_ms))
    assert run.rollout.state is State.FAILED
    assert "a: no answer within 300 s" in run.rollout.reason


def test_time_that_nobody_watched_is_held_against_nobody() -> None:
    run = started([["a"]], lease_s=60, timeout_s=300)
    run.now_ms += 10_000_000
    began = run.now_ms - 10_000
    run.tell(Seen("a", online=True, last_seen_ms=0, watching_ms=began))
    run.tell(Seen("a", online=True, last_seen_ms=run.now_ms, watching_ms=began))
    assert run.state("a") is MemberState.DEPLOYED


def test_a_device_that_is_not_connected_is_not_timed_out() -> None:
    run = started([["a"]], lease_s=600, timeout_s=10)
    run.now_ms += 60_000
    run.tell(Seen("a", online=False, last_seen_ms=1000))
    assert run.state("a") is MemberState.DEPLOYED


def test_an_incompatible_device_is_neither_failure_nor_success() -> None:
    run = started([["a", "b"], ["c"]])
    run.tell(Incompatible("a", 2, "incompatible: another frame"))
    assert run.tell(DeviceSucceeded("b", 2)) == [Deploy("c")]
    assert run.state("a") is MemberState.INCOMPATIBLE


def test_a_first_wave_with_nobody_left_to_prove_it_ends_the_rollout() -> None:
    run = started([["a"], ["b"]])
    run.tell(Incompatible("a", 2, "incompatible"))
    assert run.rollout.state is State.ABORTED
    assert "no device left" in run.rollout.reason


def test_a_later_wave_that_was_taken_over_whole_is_passed_by() -> None:
    run = started([["a"], ["b"], ["c"]])
    run.tell(Superseded("b", "rollout r-2"))
    assert run.tell(DeviceSucceeded("a", 2)) == [Deploy("c")]


def test_a_superseded_member_does_not_block_and_is_not_given_back() -> None:
    run = started([["a", "b"]])
    run.tell(Superseded("b", "rollout r-2"), DeviceSucceeded("a", 2))
    assert run.rollout.state is State.SUCCEEDED
    other = started([["a", "b"]])
    other.tell(Superseded("b", "rollout r-2"))
    assert other.tell(Abort()) == [Restore("a")]


def test_a_late_joiner_is_part_of_the_last_wave() -> None:
    run = started([["a"], ["b"]])
    assert run.tell(Joined("new")) == []
    assert run.tell(DeviceSucceeded("a", 2)) == [Deploy("b"), Deploy("new")]
    assert run.tell(Joined("newer")) == [Deploy("newer")]
    assert run.tell(Joined("newer")) == []


def test_a_rollout_that_has_ended_takes_nobody_in() -> None:
    run = started([["a"]])
    run.tell(DeviceSucceeded("a", 2), Joined("new"))
    assert "new" not in run.rollout.members


def test_a_paused_rollout_begins_no_wave_until_it_is_resumed() -> None:
    run = started([["a"], ["b"]])
    run.tell(Pause())
    assert run.tell(DeviceSucceeded("a", 2)) == []
    assert run.tell(Resume()) == [Deploy("b")]


def test_a_paused_rollout_still_goes_back_on_failure() -> None:
    run = started([["a"], ["b"]])
    run.tell(Pause())
    assert run.tell(DeviceRefused("a", 2, "no")) == [Restore("a")]


def test_an_abort_gives_everyone_back_what_was_before() -> None:
    run = started([["a"], ["b", "c"]])
    run.tell(DeviceSucceeded("a", 2))
    assert set(run.tell(Abort())) == {Restore("a"), Restore("b"), Restore("c")}
    assert run.state("b") is MemberState.WITHDRAWN
    assert run.wait(1000) == []


@pytest.mark.parametrize("event", [DeviceSucceeded("a", 1), DeviceRefused("a", 3, "no"), RolledBack("a", 1, "no")])
def test_a_fact_about_another_generation_changes_nothing(event: Event) -> None:
    run = started([["a"], ["b"]])
    assert decide(run.rollout, event, run.now_ms) == (run.rollout, [])


def test_a_repeated_fact_changes_nothing() -> None:
    run = started([["a"], ["b"]])
    run.tell(DeviceSucceeded("a", 2))
    after, effects = decide(run.rollout, DeviceSucceeded("a", 2), run.now_ms + 5)
    assert after is run.rollout
    assert effects == []


@pytest.mark.parametrize("event", [Started(), Resume(), Given("a", 3, OLD), Given("b", 1, OLD), Seen("x", True, 0)])
def test_an_illegal_event_raises_and_changes_nothing(event: Event) -> None:
    run = started([["a"], ["b"]])
    before = run.rollout
    with pytest.raises(IllegalEvent):
        decide(run.rollout, event, run.now_ms)
    assert run.rollout == before


@pytest.mark.parametrize("event", [Pause(), Resume(), Abort(), Started()])
def test_a_rollout_that_has_ended_obeys_no_more(event: Event) -> None:
    run = started([["a"]])
    run.tell(DeviceSucceeded("a", 2))
    with pytest.raises(IllegalEvent, match="r-1 is succeeded"):
        decide(run.rollout, event, run.now_ms)


def given_by(state: State, member: MemberState, before: Former) -> tuple[State, Member]:
    return state, Member("a", 0, member, 2, former=before)


@pytest.mark.parametrize(
    ("state", "member", "kept"),
    [
        (State.SUCCEEDED, MemberState.SUCCEEDED, True),
        (State.SUCCEEDED, MemberState.UNREACHABLE, True),
        (State.SUCCEEDED, MemberState.SUPERSEDED, True),
        (State.RUNNING, MemberState.SUCCEEDED, True),
        (State.RUNNING, MemberState.SUPERSEDED, False),
        (State.RUNNING, MemberState.DEPLOYED, False),
        (State.SUCCEEDED, MemberState.FAILED, False),
        (State.SUCCEEDED, MemberState.ROLLED_BACK, False),
        (State.FAILED, MemberState.SUCCEEDED, False),
        (State.ABORTED, MemberState.SUPERSEDED, False),
    ],
)
def test_a_device_gets_back_the_last_version_that_was_good(state: State, member: MemberState, *, kept: bool) -> None:
    newest = Former(2, "digits", 2, b"n" * 32, "r-2")
    found = {"r-2": given_by(state, member, OLD)}
    assert origin(newest, lambda former: found.get(former.rollout)) == (newest if kept else OLD)


def test_a_lease_is_kept_prolonged_and_lost() -> None:
    lease = contend(None, "one", 1000)
    assert lease == Lease("one", 1, 1000 + LEASE_MS, 1000)
    assert contend(lease, "one", 1001) == lease
    assert contend(lease, "two", 1001) is None
    late = 1000 + LEASE_MS - 1
    assert contend(lease, "one", late) == replace(lease, expires_ms=late + LEASE_MS)


@pytest.mark.parametrize("owner", ["one", "two"])
def test_a_lease_that_ran_out_is_a_new_one_for_anyone(owner: str) -> None:
    lease = Lease("one", 7, 2000, 0)
    assert contend(lease, owner, 2000) == Lease(owner, 8, 2000 + LEASE_MS, 2000)
