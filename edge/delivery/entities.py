"""What a delivery can come to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Rejected(Exception):
    """What a trusted key signed can never become a usable artifact. Fetching it again would not help."""


class NotDelivered(TimeoutError):
    """What was asked for has not come for a long time. Ask again later: nothing that was received is lost."""


class Absent(Exception):
    """There is no such metadata file, by the word of whoever was asked."""


class Chunk(Enum):
    """What a received chunk turned out to be."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CORRUPT = "corrupt"  # not what the manifest promises at this place


class Step(Enum):
    """What to do about a chunk that has not come in time."""

    RESUBSCRIBE = "subscribe again: the broker sends what it retains, at no cost to the cloud"
    REPAIR = "ask the cloud to publish it again"


@dataclass(frozen=True, slots=True)
class Asked:
    """A chunk on its way."""

    requested_s: float
    """When it was asked for first."""
    since_s: float
    """Since when it could have come: the broker granted the newest request for it then."""
    attempts: int = 0
    """How many times it did not come in time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device may take of its link. rate: bytes a second, 0: no limit. jitter_s: the longest wait to begin."""

    rate: int = 0
    jitter_s: float = 0.0
