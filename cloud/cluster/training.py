"""What the controller does for one TrainingRun at a time: makes its Job once, then says how that stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog

from cloud.cluster import jobs
from cloud.cluster.entities import Object, Refusal, Status, Worker, Workshop
from cloud.cluster.service import rfc3339

NO_IMAGE = Refusal(
    "NoImage", "neither spec.image nor the installation (setting training_image) names an image to train with"
)

log = structlog.get_logger()


class Yard(Protocol):
    """The cluster, as far as training needs it: see client.Cluster."""

    def job(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """A Job; None: there is none of this name."""
        ...

    def create_job(self, manifest: Mapping[str, Any]) -> None:
        """Make a Job, unless there is one of its name."""
        ...

    def create_service(self, manifest: Mapping[str, Any]) -> None:
        """Make a Service, unless there is one of its name."""
        ...

    def workers(self, namespace: str, job: str) -> Sequence[Mapping[str, Any]]:
        """A Job's pods."""
        ...

    def log_tail(self, namespace: str, pod: str) -> str:
        """The last lines that a pod logged."""
        ...


class TrainingRuns:
    """Trains what objects ask for."""

    def __init__(self, yard: Yard, workshop: Workshop) -> None:
        self._yard = yard
        self._workshop = workshop

    def reconcile(self, run: Object, now_ms: int) -> Status:
        """Make what is missing, and return the object's status."""
        now = rfc3339(now_ms)
        if not jobs.image(run, self._workshop):
            return jobs.refused(run, NO_IMAGE, now)
        if (found := self._yard.job(run.namespace, run.name)) is None:
            self._yard.create_service(jobs.service(run))
            self._yard.create_job(jobs.job(run, self._workshop))
            log.info("training begun", namespace=run.namespace, trainingrun=run.name)
            found = self._yard.job(run.namespace, run.name) or {}
        if found and not _is_owned(found, run):
            taken = f"there is another Job {run.name!r} in this namespace: delete it, or choose another name"
            return jobs.refused(run, Refusal("NameTaken", taken), now)
        pods = self._yard.workers(run.namespace, run.name)
        workers = [worker(pod) for pod in pods]
        return jobs.status(run, found.get("status") or {}, workers, self._chief(run, pods), now)

    def _chief(self, run: Object, pods: Sequence[Mapping[str, Any]]) -> str:
        """The end of the log of the newest pod of the first worker."""
        chiefs = [pod for pod in pods if _index(pod) == 0]
        newest = max(chiefs, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)
        return self._yard.log_tail(run.namespace, newest["metadata"]["name"]) if newest else ""


def worker(pod: Mapping[str, Any]) -> Worker:
    """A pod as the API server shows it."""
    told = pod.get("status") or {}
    state = next((one.get("state") or {} for one in told.get("containerStatuses") or []), {})
    if ended := state.get("terminated"):
        said = ended.get("message") or ended.get("reason") or ""
        return Worker(_index(pod), ended["exitCode"], said, str(ended.get("finishedAt") or ""))
    waiting = state.get("waiting") or {}
    if waiting and waiting.get("reason") not in {"ContainerCreating", "PodInitializing"}:
        return Worker(_index(pod), None, f"{waiting.get('reason')}: {waiting.get('message') or 'no details'}")
    unplaced = [one for one in told.get("conditions") or [] if one.get("reason") == "Unschedulable"]
    return Worker(_index(pod), None, f"no node takes it: {unplaced[0].get('message')}" if unplaced else "")


def _index(pod: Mapping[str, Any]) -> int:
    return int(pod["metadata"].get("annotations", {}).get(jobs.INDEX, 0))


def _is_owned(found: Mapping[str, Any], run: Object) -> bool:
    owners = found["metadata"].get("ownerReferences") or []
    return any(owner["uid"] == run.uid for owner in owners)
