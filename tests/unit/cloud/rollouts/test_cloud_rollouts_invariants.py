"""Whatever happens to a rollout, in any order: what must never be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloud.rollouts.entities import (
    ACTIVE,
    GONE_BACK,
    Abort,
    Amend,
    Deploy,
    DeviceRefused,
    DeviceSucceeded,
    Event,
    Former,
    Gates,
    Given,
    Held,
    IllegalEvent,
    Incompatible,
    Joined,
    Member,
    MemberState,
    Pause,
    Released,
    Replaced,
    Resume,
    RolledBack,
    Rollout,
    Seen,
    Started,
    State,
    Superseded,
    Tick,
)
from cloud.rollouts.rules import decide

DEVICES = [f"edge-{number}" for number in range(6)]
JOINERS = ["late-1", "late-2"]
NEW, OLD = "new", "old"
device = st.sampled_from(DEVICES + JOINERS)
generations = st.integers(-1, 1)
ages = st.sampled_from([0, 5, 11, 100])
shares = st.sampled_from([0.0, 0.34, 0.5, 1.0])


class AnyRollout(RuleBasedStateMachine):
    """A rollout, with a simple record of what its devices were given and proved."""

    @initialize(
        waves=st.lists(st.integers(0, 2), min_size=6, max_size=6),
        gates=st.builds(
            Gates,
            max_failed_share=shares,
            min_succeeded_share=shares,
            soak_s=st.sampled_from([0, 5]),
            lease_s=st.just(10),
            timeout_s=st.sampled_from([5, 30]),
        ),
    )
    def begin(self, waves: list[int], gates: Gates) -> None:
        names = sorted(set(waves))
        members = {name: Member(name, names.index(wave)) for name, wave in zip(DEVICES, waves, strict=True)}
        self.rollout = Rollout("r", "digits", 2, b"m" * 32, {}, gates, len(names), members, 0)
        self.now_ms = 1_000_000
        self.generation = dict.fromkeys(DEVICES + JOINERS, 7)
        self.desired = dict.fromkeys(DEVICES + JOINERS, OLD)
        self.given: Counter[str] = Counter()
        self.returned: Counter[str] = Counter()
        self.proved: set[tuple[str, int]] = set()
        self.closed: set[str] = set()
        self.ended: State | None = None
        self.tell(Started())

    def tell(self, event: Event) -> None:
        before = self.rollout
        try:
            after, effects = decide(before, event, self.now_ms)
        except IllegalEvent:
            assert self.rollout is before
            return
        assert after.wave >= before.wave
        self.rollout = after
        for effect in effects:
            self.generation[effect.device] += 1
            if isinstance(effect, Deploy):
                self.check_turn(before, after, after.members[effect.device].wave)
                assert effect.device not in self.closed
                self.given[effect.device] += 1
                self.desired[effect.device] = NEW
                given = Given(effect.device, self.generation[effect.device], Former())
                self.rollout, more = decide(self.rollout, given, self.now_ms)
                assert not more
            else:
                self.returned[effect.device] += 1
                self.desired[effect.device] = OLD

    def check_turn(self, before: Rollout, after: Rollout, wave: int) -> None:
        """A wave that begins now does so with every gate before it open."""
        assert after.state is State.RUNNING
        for earlier in range(wave):
            members = [member for member in after.members.values() if member.wave == earlier]
            assert not [member for member in members if member.state is MemberState.PENDING]
            if wave > before.wave:
                assert self.proof_up_to(earlier)
                self.check_shares(earlier)

    def proof_up_to(self, wave: int) -> bool:
        """Someone of the wave has proved it, or someone before where nobody of the wave is left."""
        members = [member for member in self.rollout.members.values() if member.wave == wave]
        gone = {MemberState.SUPERSEDED, MemberState.INCOMPATIBLE}
        if all(member.state in gone for member in members):
            return any(self.proof_up_to(earlier) for earlier in range(wave))
        return any((member.device, member.generation) in self.proved for member in members)

    def check_shares(self, wave: int) -> None:
        counted = Counter(member.state for member in self.rollout.members.values() if member.wave == wave)
        failed = counted[MemberState.FAILED] + counted[MemberState.ROLLED_BACK]
        reachable = failed + counted[MemberState.SUCCEEDED] + counted[MemberState.DEPLOYED]
        assert failed <= self.rollout.gates.max_failed_share * reachable + 1e-6

    @rule(seconds=st.sampled_from([0.1, 3, 8, 20]))
    def time_passes(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)
        self.tell(Tick())

    @rule(name=device, off=generations)
    def succeeds(self, name: str, off: int) -> None:
        self.proved.add((name, self.generation[name] + off))
        self.tell(DeviceSucceeded(name, self.generation[name] + off))

    @rule(name=device, off=generations, kind=st.sampled_from([DeviceRefused, RolledBack, Incompatible]))
    def fails(self, name: str, off: int, kind: type[DeviceRefused]) -> None:
        self.tell(kind(name, self.generation[name] + off, "because"))

    @rule(
        name=device, online=st.booleans(), ago=st.sampled_from([0, 5, 11, 100]), watched=st.sampled_from([1, 50, 999])
    )
    def is_seen(self, name: str, ago: int, watched: int, *, online: bool) -> None:
        self.tell(Seen(name, online, self.now_ms - ago * 1000, self.now_ms - watched * 1000))

    @rule(name=device)
    def is_taken_over(self, name: str) -> None:
        self.tell(Superseded(name, "rollout r-newer"))
        if name in self.rollout.members and self.rollout.members[name].state is MemberState.SUPERSEDED:
            self.desired[name] = OLD  # no longer this rollout's matter

    @rule(name=st.sampled_from(JOINERS))
    def joins(self, name: str) -> None:
        if name not in self.closed:
            self.tell(Joined(name))

    @rule(name=st.sampled_from(DEVICES))
    def is_cordoned(self, name: str) -> None:
        self.closed.add(name)
        self.tell(Held(name))

    @rule(name=st.sampled_from(DEVICES))
    def is_uncordoned(self, name: str) -> None:
        self.closed.discard(name)
        self.tell(Released(name))

    @rule(failed=shares, soak_s=st.sampled_from([0, 5]))
    def gets_other_gates(self, failed: float, soak_s: float) -> None:
        self.tell(Amend(replace(self.rollout.gates, max_failed_share=failed, soak_s=soak_s)))

    @rule(wish=st.sampled_from([Pause(), Resume(), Started()]))
    def is_asked(self, wish: Pause | Resume | Started) -> None:
        self.tell(wish)

    @precondition(lambda self: self.now_ms > 1_050_000)
    @rule()
    def is_aborted(self) -> None:
        self.tell(Abort())

    @precondition(lambda self: self.now_ms > 1_050_000)
    @rule()
    def is_replaced(self) -> None:
        self.tell(Replaced("r-next"))

    @invariant()
    def each_member_is_given_the_version_once_and_given_back_once(self) -> None:
        assert all(count == 1 for count in self.given.values())
        assert all(count == 1 and self.given[name] for name, count in self.returned.items())

    @invariant()
    def nobody_is_left_on_a_version_that_was_withdrawn(self) -> None:
        if self.rollout.state in GONE_BACK:
            assert NEW not in self.desired.values()
        else:
            assert not self.returned

    @invariant()
    def only_a_proof_makes_a_success(self) -> None:
        for member in self.rollout.members.values():
            if member.state is MemberState.SUCCEEDED:
                assert (member.device, member.generation) in self.proved

    @invariant()
    def nobody_has_the_version_before_the_wave_has_begun(self) -> None:
        for name in self.given:
            assert self.rollout.members[name].wave <= self.rollout.wave

    @invariant()
    def an_end_is_an_end(self) -> None:
        if self.ended:
            assert self.rollout.state is self.ended
        elif self.rollout.state not in ACTIVE:
            self.ended = self.rollout.state
            if self.ended is State.SUCCEEDED:
                assert self.rollout.wave == self.rollout.waves - 1
                assert all(self.proof_up_to(wave) for wave in range(self.rollout.waves))
                assert not any(member.state is MemberState.HELD for member in self.rollout.members.values())
            else:
                assert self.rollout.reason


AnyRollout.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAnyRollout = AnyRollout.TestCase
