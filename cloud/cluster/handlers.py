"""What kopf calls for our objects and for nodes: each converts, and asks the room's services.

A timer for each object looks at it again and again, so that nothing depends on an event that was seen. kopf adds the
finalizer that holds a deleted object until its handler has run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import kopf

from cloud.cluster import conditions, nodes, rules
from cloud.cluster.entities import GROUP, GROUPS, ROLLOUTS, RUNS, VERSION, Object, Status
from cloud.cluster.service import DeviceGroups, ModelRollouts
from cloud.cluster.training import TrainingRuns
from cloud.fleet.service import Fleet
from cloud.rollouts.entities import Lease, LeaseLost

LOOK_S = 1.0
SETTLED_S = 10.0
"""What has ended is looked at only so often."""

GROUPS_S = 5.0
AGAIN_S = 2.0
FINALIZER = f"{GROUP}/controller"


@dataclass(frozen=True, slots=True)
class Handlers:
    """All handlers. lease: that of the controller which they act for, or None once it is lost."""

    rollouts: ModelRollouts
    groups: DeviceGroups
    runs: TrainingRuns
    fleet: Fleet
    lease: Callable[[], Lease | None]

    def registry(self) -> kopf.OperatorRegistry:
        """Them, as kopf takes them."""
        made = kopf.OperatorRegistry()
        kopf.on.startup(registry=made)(_configure)
        kopf.on.login(registry=made)(_login)
        kopf.timer(GROUP, VERSION, ROLLOUTS, interval=LOOK_S, backoff=AGAIN_S, registry=made)(self.look_at_rollout)
        kopf.on.delete(GROUP, VERSION, ROLLOUTS, backoff=AGAIN_S, registry=made)(self.leave_rollout)
        kopf.timer(GROUP, VERSION, GROUPS, interval=GROUPS_S, backoff=AGAIN_S, registry=made)(self.look_at_group)
        kopf.timer(GROUP, VERSION, RUNS, interval=LOOK_S, backoff=AGAIN_S, registry=made)(self.look_at_run)
        kopf.on.event("v1", "nodes", registry=made)(self.see_node)
        return made

    def look_at_rollout(self, body: Mapping[str, Any], patch: kopf.Patch, memo: kopf.Memo, **_: object) -> None:
        """Keep a ModelRollout and its rollout in step."""
        thing = _object(body)
        if rules.is_settled(thing) and time.monotonic() - memo.get("looked", -SETTLED_S) < SETTLED_S:
            return
        with _fenced():
            _write(patch, thing, self.rollouts.reconcile(thing, self._held(), _now_ms()))
        memo["looked"] = time.monotonic()

    def leave_rollout(self, body: Mapping[str, Any], **_: object) -> None:
        """A ModelRollout is deleted."""
        with _fenced():
            self.rollouts.leave(_object(body), self._held(), _now_ms())

    def look_at_group(self, body: Mapping[str, Any], patch: kopf.Patch, **_: object) -> None:
        """Count a DeviceGroup's devices."""
        with _fenced():
            self._held()
        thing = _object(body)
        _write(patch, thing, self.groups.reconcile(thing, _now_ms()))

    def look_at_run(self, body: Mapping[str, Any], patch: kopf.Patch, **_: object) -> None:
        """Make a TrainingRun's Job, and follow it."""
        with _fenced():
            self._held()
        thing = _object(body)
        if not rules.is_settled(thing):
            _write(patch, thing, self.runs.reconcile(thing, _now_ms()))

    def see_node(self, body: Mapping[str, Any], type: str | None, **_: object) -> None:  # noqa: A002 - kopf's name
        """A node is there, has changed, or is gone."""
        with _fenced():
            self._held()
        if node := nodes.node(body, gone=type == "DELETED"):
            self.fleet.take_node(node, _now_ms())

    def _held(self) -> Lease:
        if (lease := self.lease()) is None:
            raise LeaseLost("another controller is active now")
        return lease


@contextmanager
def _fenced() -> Iterator[None]:
    """A lost lease is no fault: kopf is about to be stopped, and this is the next controller's."""
    try:
        yield
    except LeaseLost as error:
        raise kopf.TemporaryError(str(error), delay=AGAIN_S) from error


def _configure(settings: kopf.OperatorSettings, **_: object) -> None:
    """What kopf would otherwise ask of the cluster beyond our objects: peers, events, the kinds that come and go."""
    settings.process.ultimate_exiting_timeout = None
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.background.cancellation_polling = LOOK_S
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)


def _login(**given: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 - as kopf hands them over
    """As this pod's service account, else as the kubeconfig says; the same as the official client in client.py."""
    return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)


def _object(body: Mapping[str, Any]) -> Object:
    metadata = body["metadata"]
    return Object(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        spec=body["spec"],
        status=body.get("status") or {},
    )


def _write(patch: kopf.Patch, thing: Object, wanted: Status) -> None:
    patch.status.update(conditions.patch(thing.status, wanted))


def _now_ms() -> int:
    return int(time.time() * 1000)
