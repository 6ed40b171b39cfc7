"""How far a device's last window, or all devices' together, is from the model's reference."""

from __future__ import annotations

from dataclasses import dataclass

from protos.kit.differences import Difference
from protos.v1.sketches_pb2 import Sketch

HOUR_MS = 3_600_000


class BadDrift(ValueError):
    """What a device says of drift cannot be believed; nothing of it was taken."""


@dataclass(frozen=True, slots=True)
class DeviceDrift:
    """The last window of one slot of a device.

    began_ms, ended_ms by the device's clock, received_ms and since_ms by ours; since_ms: since when it drifts, 0: it
    does not. alarm: what is past the thresholds, for people.
    """

    device: str
    slot: str
    model: str
    version: int
    manifest: bytes
    variant: str
    began_ms: int
    ended_ms: int
    received_ms: int
    since_ms: int
    alarm: str
    difference: Difference
    sketch: Sketch


@dataclass(frozen=True, slots=True)
class ModelDrift:
    """All devices' last windows of one model version together. devices: how many; drifting: how many of them drift."""

    model: str
    version: int
    variant: str
    devices: int
    drifting: int
    alarm: str
    difference: Difference


class TooMuch(ValueError):
    """What was asked is too much for one answer; the message says what to ask instead."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Hours since 1970, both included. model: only of this one. device: its slots; None: all devices together."""

    first_hour: int
    last_hour: int
    model: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class DriftHour:
    """What was seen and said in an hour by one device's slot, or by all devices together (device and slot None).

    hour: since 1970, by the cloud's clock. windows: how many were added up.
    """

    hour: int
    device: str | None
    slot: str | None
    model: str
    version: int
    manifest: bytes
    variant: str
    windows: int
    sketch: Sketch


@dataclass(frozen=True, slots=True)
class JudgedHour:
    """An hour beside the model's reference."""

    seen: DriftHour
    difference: Difference
    alarm: str
