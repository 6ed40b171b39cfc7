"""What the controller does for one ModelRollout or DeviceGroup at a time: compare, act, say how it stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from cloud.cluster import rules
from cloud.cluster.conditions import conditions
from cloud.cluster.entities import Act, Begin, NoSuchGroup, Object, Refusal, Status, Tell, Wanted
from cloud.fleet.entities import Device, NodeState
from cloud.fleet.service import Fleet
from cloud.registry.entities import UnknownModel
from cloud.rollouts import waves
from cloud.rollouts.entities import BadWaves, Conflict, IllegalEvent, Lease, NoTargets, Overview
from cloud.rollouts.service import Owned, Rollouts

REFUSALS: Mapping[type[Exception], str] = {
    UnknownModel: "UnknownModel",
    NoTargets: "NoDevices",
    BadWaves: "InvalidWaves",
    NoSuchGroup: "NoSuchGroup",
}
FLEET_S = 5.0
"""For so long the fleet that was read serves all groups: a large one costs a second to read."""

Labels = Callable[[str, str], Mapping[str, str]]
"""The labels that a DeviceGroup selects by, from its namespace and name. Raises NoSuchGroup."""

log = structlog.get_logger()


class ModelRollouts:
    """Keeps rollouts in step with the objects that ask for them. Only rollouts that an object began are touched."""

    def __init__(self, rollouts: Rollouts, labels: Labels) -> None:
        self._rollouts = rollouts
        self._labels = labels

    def reconcile(self, thing: Object, lease: Lease, now_ms: int) -> Status:
        """Do what the object asks for, and return its status. Raises LeaseLost."""
        wanted, mine = rules.read(thing.spec), self._mine(thing)
        refusal, todo = None, rules.acts(thing.uid, wanted, mine)
        for act in todo:
            refusal = self._carry_out(thing, wanted, act, lease, now_ms) or refusal
        return rules.status(thing, wanted, self._mine(thing) if todo else mine, refusal, rfc3339(now_ms))

    def leave(self, thing: Object, lease: Lease, now_ms: int) -> None:
        """The object is deleted: end what it began, or let it go on, as it says. Raises LeaseLost."""
        for act in rules.farewell(rules.read(thing.spec), self._mine(thing)):
            self._tell(thing, act, lease, now_ms)

    def _mine(self, thing: Object) -> Sequence[Overview]:
        return self._rollouts.standing(rules.prefix(thing.uid))

    def _carry_out(self, thing: Object, wanted: Wanted, act: Act, lease: Lease, now_ms: int) -> Refusal | None:
        match act:
            case Begin():
                return self._begin(thing, wanted, Owned(act.rollout, act.replaces, lease), now_ms)
            case Tell():
                self._tell(thing, act, lease, now_ms)
                return None

    def _begin(self, thing: Object, wanted: Wanted, owned: Owned, now_ms: int) -> Refusal | None:
        try:
            selector = self._labels(thing.namespace, wanted.group) if wanted.group else wanted.request.selector
            self._rollouts.create(replace(wanted.request, selector=selector), now_ms, owned)
        except tuple(REFUSALS) as error:
            return Refusal(REFUSALS[type(error)], str(error.args[0]))
        log.info("rollout begun", rollout=owned.rollout, namespace=thing.namespace, modelrollout=thing.name)
        return None

    def _tell(self, thing: Object, act: Tell, lease: Lease, now_ms: int) -> None:
        wish = type(act.wish).__name__.lower()
        try:
            self._rollouts.ask(act.rollout, act.wish, now_ms, lease)
        except (IllegalEvent, Conflict) as error:  # it ended or moved meanwhile: the next look sees what it is now
            log.info("rollout not told", wish=wish, reason=str(error), modelrollout=thing.name)
        else:
            log.info("rollout told", wish=wish, rollout=act.rollout, modelrollout=thing.name)


class DeviceGroups:
    """Counts the devices that groups select."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._read: tuple[float, Sequence[Device]] = (-FLEET_S, ())

    def reconcile(self, thing: Object, now_ms: int) -> Status:
        """The group's status."""
        labels: Mapping[str, str] = thing.spec["selector"]["matchLabels"]
        found = [device for device in self._devices() if waves.matches(labels, device.labels)]
        return group_status(thing, found, rfc3339(now_ms))

    def _devices(self) -> Sequence[Device]:
        if time.monotonic() - self._read[0] >= FLEET_S:
            self._read = time.monotonic(), self._fleet.devices()
        return self._read[1]


def group_status(thing: Object, found: Sequence[Device], now: str) -> Mapping[str, Any]:
    """The status of a group that has these devices."""
    nodes = [device.node for device in found if device.node]
    # A group that nobody is in yet is one all the same: whoever waits for it shall not wait for a device.
    ready = (True, "DevicesFound" if found else "NoDevices", f"{len(found)} devices have these labels")
    return {
        "observedGeneration": thing.generation,
        "devices": len(found),
        "online": sum(device.online for device in found),
        "cordoned": sum(node.is_closed for node in nodes),
        "notReady": sum(node.state is not NodeState.READY for node in nodes),
        "conditions": conditions({"Ready": ready}, thing.generation, thing.status, now),
    }


def rfc3339(now_ms: int) -> str:
    """A time in Unix ms as Kubernetes writes it."""
    return datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
