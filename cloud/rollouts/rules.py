"""What a rollout does next: pure. Facts move members, by one table; then the gates judge, by the other.

A fact that is repeated, late, or about another generation changes nothing, so that a controller may tell all that it
knows again and again, and one that was killed at any point skips nothing and repeats nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from cloud.fleet.entities import Outcome, Standing
from cloud.rollouts.entities import (
    ACTIVE,
    GONE_BACK,
    OPEN,
    Abort,
    Amend,
    Deploy,
    DeviceRefused,
    DeviceSucceeded,
    Effect,
    Event,
    Former,
    Given,
    Held,
    IllegalEvent,
    Incompatible,
    Joined,
    Lease,
    Member,
    MemberEvent,
    MemberState,
    Pause,
    Released,
    Replaced,
    Restore,
    Resume,
    RolledBack,
    Rollout,
    Seen,
    Started,
    State,
    Superseded,
    Tick,
    Wish,
)
from cloud.rollouts.waves import Shown, Verdict, shown, verdict

M = MemberState

# fmt: off
MEMBER_MOVES: Mapping[MemberState, Mapping[object, MemberState]] = {
    #                what time and we do           what the device proves              what others do
    M.PENDING:      {Deploy:     M.DEPLOYED,                                           Superseded: M.SUPERSEDED,
                                                                                       Held:       M.HELD},
    M.HELD:         {                                                                  Superseded: M.SUPERSEDED,
                                                                                       Released:   M.PENDING},
    M.DEPLOYED:     {Given:      M.DEPLOYED,       DeviceSucceeded: M.SUCCEEDED,       Superseded: M.SUPERSEDED,
                     "silent":   M.UNREACHABLE,    DeviceRefused:   M.FAILED,
                     "timeout":  M.FAILED,         RolledBack:      M.ROLLED_BACK,
                     Restore:    M.WITHDRAWN,      Incompatible:    M.INCOMPATIBLE},
    M.UNREACHABLE:  {"returned": M.DEPLOYED,       DeviceSucceeded: M.SUCCEEDED,       Superseded: M.SUPERSEDED,
                                                   DeviceRefused:   M.FAILED,
                                                   RolledBack:      M.ROLLED_BACK,
                     Restore:    M.WITHDRAWN,      Incompatible:    M.INCOMPATIBLE},
    M.SUCCEEDED:    {Restore:    M.SUCCEEDED,      RolledBack:      M.ROLLED_BACK},
    M.FAILED:       {Restore:    M.FAILED},
    M.ROLLED_BACK:  {Restore:    M.ROLLED_BACK},
    M.INCOMPATIBLE: {Restore:    M.INCOMPATIBLE},
    M.SUPERSEDED:   {},
    M.WITHDRAWN:    {},
}
"""From a member's state and what happens to its next state. What is not in it changes nothing."""

MOVES: Mapping[State, Mapping[object, State]] = {
    State.RUNNING:   {Started: State.RUNNING,  Pause:  State.PAUSED,   Abort:              State.ABORTED,
                      Amend:   State.RUNNING,  Replaced: State.SUPERSEDED,
                      Verdict.OPEN:       State.SUCCEEDED,  # of the last wave, when nobody is still to answer
                      Verdict.BROKEN:     State.FAILED,    Verdict.UNPROVABLE: State.ABORTED},
    State.PAUSED:    {                         Resume: State.RUNNING,  Abort:              State.ABORTED,
                      Amend:   State.PAUSED,   Replaced: State.SUPERSEDED,
                      Verdict.BROKEN:     State.FAILED,    Verdict.UNPROVABLE: State.ABORTED},
    State.SUCCEEDED: {},
    State.FAILED:    {},
    State.ABORTED:   {},
    State.SUPERSEDED: {},
}
"""From a rollout's state, and a person's wish or the verdict on its waves, to its next state."""
# fmt: on

WAITING = frozenset({M.PENDING, M.HELD})
"""Not yet given the version."""
UNJUDGED = ACTIVE | {State.SUPERSEDED}
ENDS = frozenset({Verdict.BROKEN, Verdict.UNPROVABLE})
DEPLOYED_AT_ONCE = 500
"""Members that one decision gives the version: bounds how long its transaction keeps others from writing."""
LEASE_MS = 5000
"""A controller that was killed is replaced after this time at the latest."""
NOT_FOR_THIS_DEVICE = "incompatible"
"""How a device's reason begins when it refuses a version that is made for other devices."""


def decide(rollout: Rollout, event: Event, now_ms: int) -> tuple[Rollout, list[Effect]]:
    """The rollout after `event`, and what must be done for it. Raises IllegalEvent, and then changes nothing."""
    return decide_all(rollout, [event], now_ms)


def decide_all(rollout: Rollout, events: Sequence[Event], now_ms: int) -> tuple[Rollout, list[Effect]]:
    """The rollout after all `events`, judged once at their end. The same object, if nothing has changed.

    Given alone is no reason to judge: it says what we did, not what came of it.
    """
    members = dict(rollout.members)
    wished = rollout
    for event in events:
        match event:
            case Started() | Pause() | Resume() | Abort() | Amend() | Replaced():
                wished = _obey(wished, event)
            case Tick():
                pass
            case Joined(device):
                _join(wished, members, device)
            case _:
                members[event.device] = _hear(wished, _member(members, event.device), event, now_ms)
    changed = [member for device, member in members.items() if rollout.members.get(device) is not member]
    wished = _with(wished, changed)
    if wished.state in GONE_BACK and rollout.state in ACTIVE:
        return _go_back(wished)
    if wished.state is State.SUPERSEDED:
        return _hand_over(wished), []
    return (wished, []) if all(isinstance(event, Given) for event in events) else _judge(wished, now_ms)


def facts(
    rollout: Rollout, standings: Mapping[str, Standing], newer: Mapping[str, str], watching_ms: int, now_ms: int
) -> list[Event]:
    """All that the fleet knows about a rollout's members, as events.

    standings: by device, of those whose newest deployment is this rollout's. newer: by device, the newer active rollout
    that has it. watching_ms: as in Seen.
    """
    events: list[Event] = []
    for member in rollout.members.values():
        standing = standings.get(member.device)
        if member.state in WAITING and member.device in newer:
            events.append(Superseded(member.device, f"rollout {newer[member.device]}"))
        elif member.state in OPEN and (standing is None or standing.generation != member.generation):
            by = f"rollout {newer[member.device]}" if member.device in newer else "a newer deployment"
            events.append(Superseded(member.device, by))
        elif member.state in OPEN and standing:
            events.append(Seen(member.device, standing.online, standing.last_seen_ms, watching_ms))
            events += _proof(rollout, standing, now_ms)
        elif member.state is M.SUCCEEDED and standing and Outcome.ROLLED_BACK in standing.outcomes:
            events += _proof(rollout, standing, now_ms)
    return events


def care(rollout: Rollout, joined: Collection[str], closed: Collection[str]) -> list[Event]:
    """Which members, and devices that join now, are held or released: those in `closed` take no new model now."""
    if rollout.state not in ACTIVE:
        return []
    members = rollout.members.values()
    held: list[Event] = [Held(m.device) for m in members if m.state is M.PENDING and m.device in closed]
    held += [Held(device) for device in joined if device in closed]
    return held + [Released(m.device) for m in members if m.state is M.HELD and m.device not in closed]


def contend(held: Lease | None, owner: str, now_ms: int) -> Lease | None:
    """The lease that `owner` has now: the same, a longer or a new one; None if another's still holds.

    A lease that ran out is a new one even for its former holder, who did not watch meanwhile.
    """
    if held is None or now_ms >= held.expires_ms:
        return Lease(owner, held.token + 1 if held else 1, now_ms + LEASE_MS, now_ms)
    if held.owner != owner:
        return None
    return held if held.expires_ms - now_ms > LEASE_MS / 2 else replace(held, expires_ms=now_ms + LEASE_MS)


def origin(former: Former, given_by: Callable[[Former], tuple[State, Member] | None]) -> Former:
    """What to give a device back: `former`, or what was before it for as long as that was not good on this device.

    given_by: the state of the rollout, and its member, that gave this generation to the device; None if a rollout gave
    it back, or nobody gave it.
    """
    while (found := given_by(former)) and _is_unproven(*found):
        former = found[1].former
    return former


def _proof(rollout: Rollout, standing: Standing, now_ms: int) -> list[Event]:
    """What a device's receipts say. Success is a receipt from a device that is alive, for the manifest it was given."""
    device, generation, outcomes = standing.device, standing.generation, standing.outcomes
    if (reason := outcomes.get(Outcome.ROLLED_BACK)) is not None:
        return [RolledBack(device, generation, reason)]
    if (reason := outcomes.get(Outcome.REFUSED)) is not None:
        kind = Incompatible if reason.startswith(NOT_FOR_THIS_DEVICE) else DeviceRefused
        return [kind(device, generation, reason)]
    is_alive = now_ms - standing.last_seen_ms <= rollout.gates.lease_s * 1000
    if Outcome.COMMITTED in outcomes and standing.manifest == rollout.manifest and is_alive:
        return [DeviceSucceeded(device, generation)]
    return []


def _obey(rollout: Rollout, event: Wish) -> Rollout:
    move = MOVES[rollout.state].get(type(event))
    begun = isinstance(event, Started) and rollout.wave >= 0
    if move is None or begun:
        wish = type(event).__name__.lower()
        raise IllegalEvent(f"rollout {rollout.id} is {rollout.state.value}: {wish} is not possible now")
    if isinstance(event, Started):
        return replace(rollout, wave=0)
    if isinstance(event, Amend):
        return replace(rollout, gates=event.gates)
    return replace(rollout, state=move, reason=_end(event))


def _end(event: Wish) -> str:
    """Why a rollout ended, if it did."""
    match event:
        case Abort():
            return "aborted on request"
        case Replaced(by):
            return f"superseded by rollout {by}"
        case _:
            return ""


def _join(rollout: Rollout, members: dict[str, Member], device: str) -> None:
    if rollout.state in ACTIVE and device not in members:
        members[device] = Member(device, rollout.waves - 1)


def _hear(rollout: Rollout, member: Member, event: MemberEvent, now_ms: int) -> Member:
    """The member after a fact; the same object, if that tells nothing new."""
    match event:
        case Given(_, generation, former):
            if member.state is not M.DEPLOYED or member.generation:
                raise IllegalEvent(f"{member.device} is {member.state.value} and was not to be given anything")
            return replace(member, generation=generation, former=former)
        case Superseded() | Held() | Released():
            return _move(member, type(event), reason=_why(event))
        case Seen():
            return _see(rollout, member, event, now_ms)
        case _ if event.generation != member.generation:
            return member  # of another deployment than ours
        case DeviceSucceeded():
            return _move(member, DeviceSucceeded, reason="", succeeded_ms=now_ms)
        case _:
            return _move(member, type(event), reason=event.reason)


def _why(event: Superseded | Held | Released) -> str:
    match event:
        case Superseded(_, by):
            return f"taken over by {by}"
        case Held():
            return "its node is cordoned"
        case Released():
            return ""


def _see(rollout: Rollout, member: Member, seen: Seen, now_ms: int) -> Member:
    """Leases and time limits. Time counts only while we watched: what happened before, nobody could have told us."""
    gates = rollout.gates
    if now_ms - seen.last_seen_ms <= gates.lease_s * 1000:
        member = _move(member, "returned", waiting_ms=now_ms)
    alive_ms = max(seen.last_seen_ms, seen.watching_ms, member.waiting_ms)
    if now_ms - alive_ms > gates.lease_s * 1000:
        return _move(member, "silent")
    if seen.online and now_ms - max(member.waiting_ms, seen.watching_ms) > gates.timeout_s * 1000:
        return _move(member, "timeout", reason=f"no answer within {gates.timeout_s:g} s")
    return member


def _move(member: Member, cause: object, **told: object) -> Member:
    state = MEMBER_MOVES[member.state].get(cause)
    return member if state is None else replace(member, state=state, **told)  # type: ignore[arg-type]


def _judge(rollout: Rollout, now_ms: int) -> tuple[Rollout, list[Effect]]:
    """Go back if a begun wave broke its gate; else begin the waves whose turn it is."""
    if rollout.state not in ACTIVE or rollout.wave < 0:
        return rollout, []
    waves = shown(rollout)
    for index in range(rollout.wave + 1):
        found, reason = verdict(waves, index, rollout.gates, now_ms)
        if found in ENDS:
            return _go_back(replace(rollout, state=MOVES[rollout.state][found], reason=reason))
    if rollout.state is State.PAUSED:
        return rollout, []
    return _go_on(rollout, waves, now_ms)


def _go_on(rollout: Rollout, waves: Sequence[Shown], now_ms: int) -> tuple[Rollout, list[Effect]]:
    begun = rollout.wave
    while (is_open := verdict(waves, begun, rollout.gates, now_ms)[0] is Verdict.OPEN) and begun + 1 < rollout.waves:
        begun += 1
    if begun != rollout.wave:
        rollout = replace(rollout, wave=begun)
    if is_open and not any(wave.in_flight or wave.held for wave in waves):
        return replace(rollout, state=MOVES[rollout.state][Verdict.OPEN]), []
    due = [m for m in rollout.members.values() if m.state is M.PENDING and m.wave <= begun][:DEPLOYED_AT_ONCE]
    return _with(rollout, [_move(member, Deploy, waiting_ms=now_ms) for member in due]), [Deploy(m.device) for m in due]


def _go_back(rollout: Rollout) -> tuple[Rollout, list[Effect]]:
    """Everyone who was given the version, and whom no newer rollout has, gets back what was before."""
    given = [member for member in rollout.members.values() if Restore in MEMBER_MOVES[member.state]]
    return _with(rollout, [_move(member, Restore) for member in given]), [Restore(m.device) for m in given]


def _hand_over(rollout: Rollout) -> Rollout:
    """Whoever has not answered is another rollout's now."""
    open_ = [member for member in rollout.members.values() if Superseded in MEMBER_MOVES[member.state]]
    return _with(rollout, [_move(member, Superseded, reason=rollout.reason) for member in open_])


def _with(rollout: Rollout, moved: Sequence[Member]) -> Rollout:
    if not moved:
        return rollout
    return replace(rollout, members={**rollout.members, **{member.device: member for member in moved}})


def _is_unproven(state: State, member: Member) -> bool:
    """Whether what a rollout gave this device is not known to be good on it, nor believed to be by its success."""
    failed = member.state in {M.FAILED, M.ROLLED_BACK, M.INCOMPATIBLE, M.WITHDRAWN}
    return failed or state in GONE_BACK or (state in UNJUDGED and member.state is not M.SUCCEEDED)


def _member(members: Mapping[str, Member], device: str) -> Member:
    if device not in members:
        raise IllegalEvent(f"{device} is not part of this rollout")
    return members[device]
