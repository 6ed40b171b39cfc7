"""What happens on a device and a person may want to know later: any room tells it, `edge/events` writes it down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is. A warning is worth a look; after an error something is lost, or does not work."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. kind: the room, a dot, what happened. text: for people.

    slot, model, version: what it is about, as far as it is about one. about: what else tells it from others of its
    kind. times: how often it happened. series: such events have rising numbers over all lives of the agent, and each
    number is told once, however often a new life tells it again; empty: it has no number. happened_ms: Unix time; 0:
    now.
    """

    kind: str
    text: str
    severity: Severity = Severity.INFO
    slot: str = ""
    model: str = ""
    version: int = 0
    about: str = ""
    times: int = 1
    series: str = ""
    number: int = 0
    happened_ms: int = 0


Tell = Callable[[Event], None]
"""Takes an event on the agent's event loop, and returns at once."""


def untold(_: Event) -> None:
    """It is `Tell`, where nobody listens."""
