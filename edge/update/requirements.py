"""Whether this device is one that a model version was made for: pure, and told before anything large is fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass

from protos.v1.manifest_pb2 import Requirements


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device is. architecture: as `uname -m` says. operators: what its interpreter knows; None: it cannot tell.

    Where it cannot tell, the golden vectors must. hardware: what it computes with, in words.
    """

    architecture: str
    agent_version: str
    operators: frozenset[str] | None
    hardware: str = ""


class Incompatible(Exception):
    """The version is for other devices. It is refused, and the message says what this one lacks."""


def check(requirements: Requirements, variant: str, facts: Facts) -> None:
    """Raises Incompatible unless the device has all that the version, in this variant, requires."""
    wanted = list(requirements.architectures)
    if wanted and facts.architecture not in wanted:
        raise Incompatible(f"incompatible: made for {', '.join(wanted)}, this device is {facts.architecture}")
    if _number(facts.agent_version) < _number(requirements.agent_version):
        raise Incompatible(
            f"incompatible: needs agent {requirements.agent_version} or newer, this is {facts.agent_version}"
        )
    needed = {name for one in requirements.operators if one.variant == variant for name in one.operators}
    missing = sorted(needed - facts.operators) if facts.operators is not None else []
    if missing:
        raise Incompatible(f"incompatible: this device's interpreter does not know {', '.join(missing)}")


def _number(version: str) -> tuple[int, ...]:
    """The numbers of a version, as far as it has any; trailing zeros make no difference."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
