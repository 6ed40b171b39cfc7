"""What an examination of the device finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. A failure keeps the device from its work, now or at its next start; a warning may one day."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


EXIT_CODES = {Level.OK: 0, Level.WARNING: 1, Level.FAILURE: 2}
"""As monitoring plugins have them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found there, and what to do about it; mend is empty when all is well."""

    name: str
    level: Level
    found: str
    mend: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    """Of all of them."""
    return max((finding.level for finding in findings), key=EXIT_CODES.__getitem__, default=Level.OK)
