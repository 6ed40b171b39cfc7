"""What a ModelRollout means: what is to be done for it, and what its status says. Pure.

The object owns its wishes, the rollout its course (docs/cluster.md has a table of who owns which field). Both are
compared as they are, again and again: what was done already is not done again, whatever was killed in between.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cloud.cluster.conditions import conditions, course
from cloud.cluster.entities import ENDED, Act, Begin, Object, Phase, Refusal, Tell, Wanted
from cloud.rollouts.entities import (
    ACTIVE,
    Abort,
    Amend,
    Gates,
    MemberState,
    Overview,
    Pause,
    Request,
    Resume,
    State,
)

PHASES: Mapping[State, Phase] = {
    State.RUNNING: Phase.PROGRESSING,
    State.PAUSED: Phase.PAUSED,
    State.SUCCEEDED: Phase.SUCCEEDED,
    State.FAILED: Phase.FAILED,
    State.ABORTED: Phase.ABORTED,
    State.SUPERSEDED: Phase.ABORTED,  # by hand: our own are superseded only by a newer one
}
UID_DIGITS = 12

# fmt: off
COUNTED: Mapping[str, tuple[MemberState, ...]] = {
    "succeeded":    (MemberState.SUCCEEDED,),
    "failed":       (MemberState.FAILED,),
    "rolledBack":   (MemberState.ROLLED_BACK,),
    "incompatible": (MemberState.INCOMPATIBLE,),
    "unreachable":  (MemberState.UNREACHABLE,),
    "held":         (MemberState.HELD,),
    "superseded":   (MemberState.SUPERSEDED,),
    "withdrawn":    (MemberState.WITHDRAWN,),
    "pending":      (MemberState.PENDING, MemberState.DEPLOYED),
}
# fmt: on


def read(spec: Mapping[str, Any]) -> Wanted:
    """What a ModelRollout's spec asks for; the API server has checked it and filled it in."""
    gates = spec["gates"]
    return Wanted(
        request=Request(
            model=spec["model"],
            version=spec["version"],
            waves=tuple(str(wave) for wave in spec["waves"]),
            selector=dict(spec["selector"]),
            gates=Gates(
                max_failed_share=float(gates["maxFailedShare"]),
                min_succeeded_share=float(gates["minSucceededShare"]),
                soak_s=float(gates["soakSeconds"]),
                lease_s=float(gates["leaseSeconds"]),
                timeout_s=float(gates["timeoutSeconds"]),
            ),
            slot=spec["slot"],
        ),
        group=spec.get("deviceGroup", ""),
        attempt=spec["attempt"],
        paused=spec["paused"],
        abort_when_deleted=spec["deletionPolicy"] == "Abort",
    )


def prefix(uid: str) -> str:
    """How the ids of all rollouts of the object with this uid begin, and of no other's."""
    return f"k-{hashlib.sha256(uid.encode()).hexdigest()[:UID_DIGITS]}-"


def current(wanted: Wanted, mine: Sequence[Overview]) -> Overview | None:
    """The rollout of what is wanted; None: it is to be begun. mine: as for `acts`."""
    if not mine:
        return None
    newest = mine[0].rollout
    there = (newest.model, newest.version, _attempt(newest.id))
    return mine[0] if there == (wanted.request.model, wanted.request.version, wanted.attempt) else None


def acts(uid: str, wanted: Wanted, mine: Sequence[Overview]) -> Sequence[Act]:
    """What is to be done now for an object, in this order. mine: its active rollouts and its newest, that first."""
    now = current(wanted, mine)
    if wanted.paused:
        return [*_pauses(mine), *_amends(wanted, now)]
    if now is None:
        former = tuple(one.rollout.id for one in mine if one.rollout.state in ACTIVE)
        return [Begin(f"{prefix(uid)}{_number(mine) + 1}-{wanted.attempt}", former)]
    return [*_amends(wanted, now), *_resumes(now)]


def farewell(wanted: Wanted, mine: Sequence[Overview]) -> Sequence[Tell]:
    """What is to be done when the object is deleted."""
    if not wanted.abort_when_deleted:
        return []
    return [Tell(one.rollout.id, Abort()) for one in mine if one.rollout.state in ACTIVE]


def is_settled(thing: Object) -> bool:
    """Whether nothing can change any more while the spec stays as it is: its rollout has ended."""
    return thing.status.get("phase") in ENDED and thing.status.get("observedGeneration") == thing.generation


def status(
    thing: Object, wanted: Wanted, mine: Sequence[Overview], refusal: Refusal | None, now: str
) -> Mapping[str, Any]:
    """The object's status. refusal: why what is to be begun could not be; now: RFC 3339, in UTC."""
    found = current(wanted, mine)
    phase, reason, message = _course(wanted, found, refusal)
    accepted = (False, refusal.reason, refusal.message) if refusal else (True, "Accepted", "the spec can be followed")
    shown = found or (mine[0] if mine else None)
    return {
        "phase": phase.value,
        "observedGeneration": thing.generation,
        "message": message,
        **(_shown(shown) if shown else {}),
        "conditions": conditions(
            {"Accepted": accepted, **course(phase, reason, message)}, thing.generation, thing.status, now
        ),
    }


def _pauses(mine: Sequence[Overview]) -> list[Tell]:
    return [Tell(one.rollout.id, Pause()) for one in mine if one.rollout.state is State.RUNNING]


def _resumes(now: Overview) -> list[Tell]:
    return [Tell(now.rollout.id, Resume())] if now.rollout.state is State.PAUSED else []


def _amends(wanted: Wanted, now: Overview | None) -> list[Tell]:
    if now is None or now.rollout.state not in ACTIVE or now.rollout.gates == wanted.request.gates:
        return []
    return [Tell(now.rollout.id, Amend(wanted.request.gates))]


def _course(wanted: Wanted, found: Overview | None, refusal: Refusal | None) -> tuple[Phase, str, str]:
    """Phase, reason and message."""
    if found is None:
        if wanted.paused:
            return Phase.PAUSED, "Paused", "begins when spec.paused is false"
        return Phase.PENDING, refusal.reason if refusal else "Waiting", refusal.message if refusal else "is to begin"
    phase = PHASES[found.rollout.state]
    return phase, phase.value, found.rollout.reason or _progress(found)


def _progress(found: Overview) -> str:
    rollout, counts = found.rollout, _counts(found)
    told = [f"{rollout.model} {rollout.version} is proved by {counts['succeeded']} of {counts['total']} devices"]
    told += [f"{counts[state]} {why}" for state, why in NOTED.items() if counts[state]]
    return "; ".join(told)


NOTED = {"unreachable": "unreachable", "held": "held (their nodes are cordoned)", "failed": "failed"}


def _shown(found: Overview) -> Mapping[str, Any]:
    rollout, counts = found.rollout, _counts(found)
    return {
        "rollout": rollout.id,
        "model": rollout.model,
        "version": rollout.version,
        "attempt": _attempt(rollout.id),
        "wave": f"{rollout.wave + 1}/{rollout.waves}",
        "done": f"{counts['succeeded']}/{counts['total']}",
        "devices": counts,
    }


def _counts(found: Overview) -> Mapping[str, int]:
    tally = sum((Counter(wave) for wave in found.tallies), Counter[MemberState]())
    counts = {name: sum(tally[state] for state in states) for name, states in COUNTED.items()}
    return {"total": sum(tally.values()), **counts}


def _number(mine: Sequence[Overview]) -> int:
    """How many rollouts the object has had."""
    return int(mine[0].rollout.id.split("-")[2]) if mine else 0


def _attempt(rollout_id: str) -> int:
    return int(rollout_id.rpartition("-")[2])
