"""What the journal remembers of what it was told lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge.foundation.events import Event

Sameness = tuple[str, ...]
"""What two events have in common that are the same again."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event that was told. repeats: how often the same has come since, the newest of them `newest`, at `newest_ms`.

    They are told together at `until_s`, after the `wait_s` in which they were counted.
    """

    wait_s: float
    until_s: float
    repeats: int = 0
    newest: Event | None = None
    newest_ms: int = 0


Recent = Mapping[Sameness, Told]


@dataclass(frozen=True, slots=True)
class Entry:
    """An event on its way to the disk. happened_ms: Unix time by this device's clock."""

    event: Event
    happened_ms: int
