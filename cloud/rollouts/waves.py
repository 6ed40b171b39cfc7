"""A wave: who is in it, what it has shown, and whether that is enough. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cloud.rollouts.entities import BadWaves, Candidate, Gates, Member, MemberState, Rollout, State

WAVE = re.compile(r"(?P<count>[1-9][0-9]{0,8})|(?P<share>[0-9]{1,3}(?:\.[0-9]{1,4})?)%|(?P<rest>rest)")
MAX_WAVES = 100
ROUNDING = 1e-9
"""A share such as 2/3 must meet the gate 0.6667 less its last digit's error, not the error."""


class Verdict(StrEnum):
    """On a begun wave."""

    WAITING = "waiting"  # it has not shown enough yet
    OPEN = "open"  # it has: the next may begin
    BROKEN = "broken"  # too much of it failed
    UNPROVABLE = "unprovable"  # nobody is left who could prove anything


@dataclass(slots=True)
class Shown:
    """What a wave has shown so far. failed: members that failed or rolled back. Times in Unix ms."""

    tally: Counter[MemberState] = field(default_factory=Counter)
    failed: list[Member] = field(default_factory=list)
    last_success_ms: int = 0

    def take(self, member: Member) -> None:
        """Count a member in."""
        self.tally[member.state] += 1
        self.last_success_ms = max(self.last_success_ms, member.succeeded_ms)
        if member.state in {MemberState.FAILED, MemberState.ROLLED_BACK}:
            self.failed.append(member)

    @property
    def succeeded(self) -> int:
        """Members with a proof."""
        return self.tally[MemberState.SUCCEEDED]

    @property
    def in_flight(self) -> int:
        """Members that can be reached and have not answered."""
        return self.tally[MemberState.PENDING] + self.tally[MemberState.DEPLOYED]

    @property
    def held(self) -> int:
        """Members that get it as soon as their nodes take new models again."""
        return self.tally[MemberState.HELD]

    @property
    def reachable(self) -> int:
        """Members that shares are of."""
        return self.in_flight + self.succeeded + len(self.failed)

    @property
    def is_deserted(self) -> bool:
        """Nobody in it can still prove anything, and nobody has failed to."""
        return self.reachable + self.held + self.tally[MemberState.UNREACHABLE] == 0


def plan(candidates: Sequence[Candidate], waves: Sequence[str]) -> list[list[str]]:
    """Device ids by wave; what no wave takes is a last one, and waves that nobody is left for are left out.

    Those that are online and take models go first: a canary that cannot answer proves nothing. Shares are of all
    candidates, rounded up. Raises BadWaves.
    """
    order = [c.device for c in sorted(candidates, key=lambda c: (c.closed, not c.online, c.device))]
    planned: list[list[str]] = []
    taken = 0
    for size in _sizes(waves, len(order)):
        planned.append(order[taken : taken + size])
        taken += size
    return [wave for wave in [*planned, order[taken:]] if wave]


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a device with these labels is one that the selector means: it has every label with its value."""
    return selector.items() <= labels.items()


def shown(rollout: Rollout) -> list[Shown]:
    """What each wave has shown."""
    waves = [Shown() for _ in range(rollout.waves)]
    for member in rollout.members.values():
        waves[member.wave].take(member)
    return waves


def verdict(waves: Sequence[Shown], index: int, gates: Gates, now_ms: int) -> tuple[Verdict, str]:
    """On the begun wave `index`, with the reason if it is a bad one."""
    wave = waves[index]
    if wave.is_deserted:
        proven = any(earlier.succeeded for earlier in waves[:index])
        return (
            (Verdict.OPEN, "") if proven else (Verdict.UNPROVABLE, f"wave {index + 1} has no device left to prove it")
        )
    if broken := _broken(wave, gates):
        return Verdict.BROKEN, f"wave {index + 1}: {broken}"
    enough = wave.succeeded >= max(1, gates.min_succeeded_share * wave.reachable - ROUNDING)
    soaked = now_ms - wave.last_success_ms >= gates.soak_s * 1000
    return (Verdict.OPEN if enough and soaked else Verdict.WAITING), ""


def wave_state(rollout: Rollout, index: int) -> str:
    """Of one wave, for people: pending, then as the rollout, then succeeded."""
    if rollout.state is State.SUCCEEDED or index < rollout.wave:
        return State.SUCCEEDED.value
    if index == rollout.wave:
        return rollout.state.value
    return MemberState.PENDING.value


def _broken(wave: Shown, gates: Gates) -> str:
    """Why a wave will never show enough, naming the first device that failed; empty: it still may."""
    if not wave.failed:
        return ""
    failed, reachable = len(wave.failed), wave.reachable
    first = min(wave.failed, key=lambda member: member.device)
    story = f"{failed} of {reachable} failed ({first.device}: {first.reason or 'no reason given'})"
    if failed > gates.max_failed_share * reachable + ROUNDING:
        return f"{story}; at most {gates.max_failed_share:.0%} may"
    if not wave.in_flight and wave.succeeded < max(1, gates.min_succeeded_share * reachable - ROUNDING):
        return f"{story}; at least {gates.min_succeeded_share:.0%} must succeed"
    return ""


def _sizes(waves: Sequence[str], total: int) -> list[int]:
    if len(waves) > MAX_WAVES:
        raise BadWaves(f"{len(waves)} waves: at most {MAX_WAVES} are taken")
    if "rest" in waves[:-1]:
        raise BadWaves("wave 'rest' takes everyone who is left: it must be the last one")
    return [_size(wave, total) for wave in waves]


def _size(wave: str, total: int) -> int:
    found = WAVE.fullmatch(wave)
    share = float(found["share"] or 0) if found else 0.0
    if not found or share > 100 or (found["share"] and share == 0):  # noqa: PLR2004 - percent
        raise BadWaves(f"wave {wave!r} is none: write a count such as '5', a share such as '25%', or 'rest'")
    if found["rest"]:
        return total
    return int(found["count"]) if found["count"] else math.ceil(share * total / 100 - ROUNDING)
