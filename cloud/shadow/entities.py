"""A challenger on a device, ordered by a person, and how it does beside the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from protos.topics import DEFAULT_SLOT
from protos.v1.sketches_pb2 import Comparison


class BadComparison(ValueError):
    """What a device says of a challenger cannot be believed; nothing of it was taken."""


class NoDevices(Exception):
    """No device is meant; the message says which there are."""


class State(StrEnum):
    """Of a challenger on a device."""

    REQUESTED = "requested"  # on its way
    RUNNING = "running"
    ENDED = "ended"  # it crashed, hung, answered what is no number, or is the champion now
    REFUSED = "refused"  # it did not prove itself, or is not for this device
    STOPPED = "stopped"  # by a person


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks for: whose devices have all these labels, or these devices. Neither: all."""

    model: str
    version: int
    share: float = 0.1
    selector: Mapping[str, str] = field(default_factory=dict)
    devices: frozenset[str] = frozenset()
    slot: str = DEFAULT_SLOT


@dataclass(frozen=True, slots=True)
class Challenge:
    """The newest challenger of one slot of a device. Times in Unix ms, 0: not yet.

    generation: of its deployment, in the slot of the challenger. comparison: the newest word of the device.
    """

    device: str
    slot: str
    generation: int
    model: str
    version: int
    manifest: bytes
    share: float
    started_ms: int
    stopped_ms: int = 0
    received_ms: int = 0
    comparison: Comparison = field(default_factory=Comparison)


@dataclass(frozen=True, slots=True)
class Standing:
    """A challenge with what the device's report says of it. champion: model and version; None: not known yet."""

    challenge: Challenge
    state: State
    reason: str
    champion: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Measures:
    """What comparisons come to. change: mean of the challenger's confidence less the champion's; costs in µs a frame.

    confusions: champion's label, challenger's label, frames; where they differ, the most frequent first.
    """

    offered: int
    compared: int
    agreed: int
    agreement: float | None
    change: float | None
    champion_p50_us: float
    champion_p95_us: float
    challenger_p50_us: float
    challenger_p95_us: float
    confusions: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Duel:
    """All devices' comparisons of one challenger with one champion together. champion: model and version."""

    champion: tuple[str, int]
    challenger: tuple[str, int]
    devices: int
    measures: Measures
