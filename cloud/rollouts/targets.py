"""Which devices a rollout goes to, or why to none. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloud.fleet.entities import Device
from cloud.rollouts.entities import Candidate, NoTargets, Request
from cloud.rollouts.waves import matches
from protos.topics import is_shadow

LABELS_SHOWN = 10


def choose(request: Request, devices: Sequence[Device]) -> Sequence[Candidate]:
    """The devices that the selector means and that have the slot. Raises NoTargets that says what there is."""
    matching = [device for device in devices if matches(request.selector, device.labels)]
    chosen = [_candidate(device) for device in matching if request.slot in _slots(device)]
    if not chosen:
        raise NoTargets(_no_slot(request.slot, matching) or _no_targets(request.selector, devices))
    return chosen


def _candidate(device: Device) -> Candidate:
    is_closed = device.node is not None and device.node.is_closed
    return Candidate(device.id, device.labels, device.online, is_closed)


def _slots(device: Device) -> set[str]:
    """The slots that rollouts go to: a challenger's has no model that serves."""
    return {name for name in device.slots if not is_shadow(name)}


def _no_slot(slot: str, matching: Sequence[Device]) -> str:
    """That no device among those that match has the slot; empty if none matches."""
    known = sorted({name for device in matching for name in _slots(device)})
    if not matching:
        return ""
    return f"no device that matches has a slot {slot!r} (setting slots): there are {', '.join(known) or 'none'}"


def _no_targets(selector: Mapping[str, str], devices: Sequence[Device]) -> str:
    if not devices:
        return "no device has reported yet: start one (littoral-edge run), then create the rollout"
    known = sorted({f"{key}={value}" for device in devices for key, value in device.labels.items()})
    wanted = ", ".join(f"{key}={value}" for key, value in selector.items())
    shown = ", ".join(known[:LABELS_SHOWN]) + (", ..." if len(known) > LABELS_SHOWN else "")
    return f"no device has the labels {wanted}: " + (f"there are {shown}" if known else "no device has any label")
