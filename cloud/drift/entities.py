"""How far a device's last window, or all devices' together, is from the model's reference."""

from __future__ import annotations

from dataclasses import dataclass

from protos.kit.differences import Difference
from protos.v1.sketches_pb2 import Sketch


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
