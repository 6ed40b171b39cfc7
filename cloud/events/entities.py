"""Events: what devices tell of, as it is stored, and what can be asked about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from cloud.uplink.questions import Place, must_be_askable


class Severity(IntEnum):
    """How much it matters, by the contract's numbers."""

    INFO = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a device. happened_ms: Unix time by its clock.

    kind: such as "update.committed". slot, model: empty if it is of none. times: how often it happened, if more than
    once, soon after each other.
    """

    happened_ms: int
    kind: str
    severity: Severity
    slot: str
    model: str
    version: int
    text: str
    times: int


@dataclass(frozen=True, slots=True)
class Kept:
    """An event as it is stored: of which device, when it came by our clock, and its place among all."""

    device: str
    place: Place
    event: Event


class Order(Enum):
    """By the time of the receipt."""

    NEWEST = "newest"
    OLDEST = "oldest"


@dataclass(frozen=True, slots=True)
class Which:
    """Events that are meant; None: any. Times are of the receipt by the cloud's clock: from_ms <= it < to_ms.

    kind: "update" means all whose kind begins with "update.". severity: at least that.
    """

    device: str | None = None
    kind: str | None = None
    severity: Severity | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    def __post_init__(self) -> None:
        """Raises InvalidQuestion for a name that PostgreSQL cannot even be asked for."""
        must_be_askable(device=self.device, kind=self.kind)


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, and where to go on; None: there are no more."""

    events: Sequence[Kept]
    after: Place | None
