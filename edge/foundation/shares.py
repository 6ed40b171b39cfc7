"""The device's slots, and how its cores are shared between them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from protos.topics import checked_name, is_shadow

MAX_SLOTS = 16
"""The cloud takes no more in a report."""

MAX_SHARE = 1000
WEIGHT_A_LEVEL = 1.25
"""By so much a process's weight falls with each level of niceness (sched(7))."""

LEAST_PRIORITY = 19


@dataclass(frozen=True, slots=True)
class Share:
    """What a slot has. threads: of its interpreter. nice: level of its model's process, 0 to 19."""

    threads: int
    nice: int


def shares_from(value: object) -> dict[str, int]:
    """Shares by slot from `name=3,name=1` (environment, flags, TOML) or a table (TOML). Raises ValueError."""
    if isinstance(value, str):
        pairs = [_pair(part.strip()) for part in value.split(",") if part.strip()]
    elif isinstance(value, Mapping):
        pairs = [(str(name), share) for name, share in value.items()]
    else:
        raise ValueError("slots are given as name=share,name=share, in a settings file also as a table")  # noqa: TRY004 - pydantic reports ValueErrors
    shares = {checked_name(name, "slot"): _checked(name, share) for name, share in pairs}
    if shadow := next((name for name in shares if is_shadow(name)), ""):
        raise ValueError(f"slot {shadow!r} has a challenger's name: give another one")
    if len(shares) < len(pairs):
        raise ValueError("a slot is given twice")
    if not 0 < len(shares) <= MAX_SLOTS:
        raise ValueError(f"{len(shares)} slots: a device has 1 to {MAX_SLOTS}")
    return shares


# NoDecode: pydantic-settings would read the environment variable of a mapping as JSON.
Shares = Annotated[dict[str, int], NoDecode, BeforeValidator(shares_from)]
"""The type of a setting that holds slots with their shares."""


def shared(shares: Mapping[str, int], threads: int, cores: int) -> dict[str, Share]:
    """What each slot has, of so many threads of a device with so many cores. A single slot has all of them.

    Several have no more threads together than there are cores, but one each; where they want more time than there is,
    the niceness of their processes divides it by their shares.
    """
    if len(shares) == 1:
        return dict.fromkeys(shares, Share(threads, 0))
    each = _divided(shares, max(len(shares), min(threads, cores)))
    largest = max(shares.values())
    return {name: Share(each[name], _niceness(largest / share)) for name, share in shares.items()}


def _divided(shares: Mapping[str, int], threads: int) -> dict[str, int]:
    """One thread each, and the others one by one to the slot that has the fewest for its share."""
    each = dict.fromkeys(shares, 1)
    for _ in range(threads - len(shares)):
        poorest = min(each, key=lambda name: (each[name] + 1) / shares[name])
        each[poorest] += 1
    return each


def _niceness(times_smaller: float) -> int:
    return min(LEAST_PRIORITY, round(math.log(times_smaller, WEIGHT_A_LEVEL)))


def _pair(part: str) -> tuple[str, object]:
    name, equals, share = part.partition("=")
    return name.strip(), share.strip() if equals else 1


def _checked(name: str, share: object) -> int:
    found = int(share) if isinstance(share, str) and share.isdecimal() else share
    if not isinstance(found, int) or isinstance(found, bool) or not 0 < found <= MAX_SHARE:
        raise ValueError(f"the share of slot {name!r} is {share!r}: give a whole number from 1 to {MAX_SHARE}")
    return found
