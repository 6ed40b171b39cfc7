"""The nouns of trust: metadata files, how long they live, what can be wrong with keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from protos.kit.keys import KeysFailed

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
OFFLINE = (ROOT, TARGETS)
ONLINE = (SNAPSHOT, TIMESTAMP)
DIRECTOR = "deployment"
"""The key that signs deployments; the metadata names it, so that it can be replaced."""

DIRECTOR_KEYS = "director/keys.json"
"""The target that names the director's keys, in its `custom` field."""

RESERVED = frozenset({*OFFLINE, *ONLINE, "director"})
"""Names that no model can have: the roles and targets of the fleet itself."""


class NotDelegated(KeysFailed):
    """A model name has no role in the metadata, and the offline keys that could make one are not here."""


class MetadataFailed(KeysFailed):
    """The metadata cannot be changed so: the message says why, and what to do. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class MetadataFile:
    """One version of one role's metadata, as devices receive it."""

    role: str
    version: int
    data: bytes

    @property
    def name(self) -> str:
        """Its file name: only the newest timestamp is asked for without a number."""
        return f"{TIMESTAMP}.json" if self.role == TIMESTAMP else f"{self.version}.{self.role}.json"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a new version of each role's metadata holds."""

    offline: timedelta = timedelta(days=365)
    model: timedelta = timedelta(days=90)
    snapshot: timedelta = timedelta(days=7)
    timestamp: timedelta = timedelta(hours=24)

    def of(self, role: str) -> timedelta:
        """The lifetime of `role`; every other name is a model's."""
        named = {ROOT: self.offline, TARGETS: self.offline, SNAPSHOT: self.snapshot, TIMESTAMP: self.timestamp}
        return named.get(role, self.model)
