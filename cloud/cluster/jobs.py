"""A TrainingRun as an indexed Job with a headless Service, and what the Job's course means for its status. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cloud.cluster.conditions import MOST_CHARACTERS, conditions, course
from cloud.cluster.entities import GROUP, VERSION, Object, Phase, Refusal, Worker, Workshop
from cloud.training.entities import Ending
from protos.kit.bearer import VARIABLE

PORT = 2222
USER = 10001
CHECKPOINTS = "/checkpoints"
INDEX = "batch.kubernetes.io/job-completion-index"
JOB_NAME = "batch.kubernetes.io/job-name"
USAGE = 2
"""Exit code of a command that was called wrongly."""

FAILURES: Sequence[Mapping[str, Any]] = [
    # Wrong usage, or refused for good: to repeat it changes nothing.
    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [USAGE, Ending.REFUSED.value]}},
    # It lost another worker: what counts is how that one ended.
    {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [Ending.PEER_LOST.value]}},
    # Its node is drained: no fault of the training.
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
]
"""What a worker's end means for the Job, the first that fits; backoffLimit counts any other failure."""


def service(run: Object) -> Mapping[str, Any]:
    """The headless Service that gives each worker a name: the others find it before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(run),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {JOB_NAME: run.name},
            "ports": [{"name": "grpc", "port": PORT}],
        },
    }


def job(run: Object, workshop: Workshop) -> Mapping[str, Any]:
    """The Job: a worker for each index. A worker that is lost begins again, from the checkpoint."""
    workers = run.spec["workers"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(run),
        "spec": {
            "completionMode": "Indexed",
            "completions": workers,
            "parallelism": workers,
            "backoffLimit": run.spec["backoffLimit"],
            "podFailurePolicy": {"rules": FAILURES},
            "template": {"metadata": {"labels": _labels(run)}, "spec": _pod(run, workshop)},
        },
    }


def image(run: Object, workshop: Workshop) -> str:
    """What the workers run; empty: neither the run nor the installation says."""
    return str(run.spec.get("image") or workshop.image)


def tf_config(run: Object) -> str:
    """Who takes part, for TensorFlow: the same for all but the index, which the kubelet fills in."""
    hosts = [f"{run.name}-{index}.{run.name}:{PORT}" for index in range(run.spec["workers"])]
    config = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": "INDEX"}}
    return json.dumps(config).replace('"INDEX"', "$(JOB_COMPLETION_INDEX)")


def status(run: Object, found: Mapping[str, Any], workers: Sequence[Worker], chief: str, now: str) -> Mapping[str, Any]:
    """The run's status. found: the Job's own; chief: the end of what the first worker logged; now: RFC 3339."""
    phase, reason, message = _course(found, workers)
    progress, version = _progress(chief), _version(workers) if phase is Phase.SUCCEEDED else None
    told = {"progress": progress, "version": version}
    return {
        "phase": phase.value,
        "observedGeneration": run.generation,
        "message": message,
        "job": run.name,
        "active": found.get("active") or 0,
        "restarts": found.get("failed") or 0,
        **{name: value for name, value in told.items() if value},
        "conditions": _conditions(run, phase, reason, message, now),
    }


def refused(run: Object, refusal: Refusal, now: str) -> Mapping[str, Any]:
    """The status of a run for which no Job can be made."""
    return {
        "phase": Phase.PENDING.value,
        "observedGeneration": run.generation,
        "message": refusal.message,
        "conditions": _conditions(run, Phase.PENDING, refusal.reason, refusal.message, now),
    }


def _metadata(run: Object) -> Mapping[str, Any]:
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainingRun",
        "name": run.name,
        "uid": run.uid,
        "controller": True,
    }
    return {"name": run.name, "namespace": run.namespace, "labels": _labels(run), "ownerReferences": [owner]}


def _labels(run: Object) -> Mapping[str, str]:
    return {
        "app.kubernetes.io/name": "littoral",
        "app.kubernetes.io/component": "training",
        f"{GROUP}/trainingrun": run.name,
    }


def _pod(run: Object, workshop: Workshop) -> Mapping[str, Any]:
    account = {"serviceAccountName": workshop.account} if workshop.account else {}
    return {
        **account,
        "automountServiceAccountToken": False,
        # In a release named littoral they would be LITTORAL_API_PORT and the like: settings that make no sense.
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "subdomain": run.name,
        "nodeSelector": run.spec.get("nodeSelector", {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(run, workshop)],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *(_volume(*one) for one in _volumes(run))],
    }


def _token(workshop: Workshop) -> Sequence[Mapping[str, Any]]:
    if not workshop.token:
        return []
    return [{"name": VARIABLE, "valueFrom": {"secretKeyRef": {"name": workshop.token, "key": "token"}}}]


def _container(run: Object, workshop: Workshop) -> Mapping[str, Any]:
    index = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    mounts = [{"name": name, "mountPath": f"/{name}", "readOnly": name == "data"} for name, _ in _volumes(run)]
    return {
        "name": "worker",
        "image": image(run, workshop),
        "args": _arguments(run),
        # The index first: what is defined above is filled in below.
        "env": [
            {"name": "JOB_COMPLETION_INDEX", "valueFrom": index},
            {"name": "TF_CONFIG", "value": tf_config(run)},
            {"name": "LITTORAL_API", "value": workshop.api},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - of the container, and its own
            *_token(workshop),
        ],
        "ports": [{"name": "grpc", "containerPort": PORT}],
        "resources": run.spec.get("resources", {}),
        # What it says when it ends, or else the end of its log, is the reason in the run's status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],  # noqa: S108
    }


def _arguments(run: Object) -> Sequence[str]:
    spec = run.spec
    # One run registers once, however often it is repeated; another object of this name is another run.
    arguments = ["train-worker", "--run", f"{run.name}.{run.uid}", "--model", spec["model"], "--data", spec["data"]]
    arguments += ["--seed", str(spec["seed"])]
    if "epochs" in spec:
        arguments += ["--epochs", str(spec["epochs"])]
    return [*arguments, "--checkpoints", CHECKPOINTS] if "checkpoints" in spec else arguments


def _volumes(run: Object) -> Sequence[tuple[str, Mapping[str, str]]]:
    given = {"checkpoints": run.spec.get("checkpoints"), "data": run.spec.get("dataVolume")}
    return [(name, where) for name, where in given.items() if where]


def _volume(name: str, where: Mapping[str, str]) -> Mapping[str, Any]:
    if "hostPath" in where:
        return {"name": name, "hostPath": {"path": where["hostPath"], "type": "DirectoryOrCreate"}}
    return {"name": name, "persistentVolumeClaim": {"claimName": where["persistentVolumeClaim"]}}


def _course(found: Mapping[str, Any], workers: Sequence[Worker]) -> tuple[Phase, str, str]:
    """Phase, reason and message from the Job's status and its pods."""
    held = {one["type"]: one for one in found.get("conditions") or [] if one["status"] == "True"}
    if "Complete" in held:
        return Phase.SUCCEEDED, "Succeeded", "the model is trained and registered"
    failure = held.get("Failed") or held.get("FailureTarget")
    last = _last_failure(workers)
    if failure:
        return Phase.FAILED, failure.get("reason") or "Failed", last or failure.get("message") or "the Job failed"
    if last and not found.get("active"):
        return Phase.PENDING, "Restarting", last
    if waiting := [worker for worker in workers if worker.exit_code is None and worker.message]:
        return Phase.PENDING, "Waiting", f"worker {waiting[0].index}: {waiting[0].message}"
    if found.get("ready"):
        return Phase.RUNNING, "Running", f"{found['ready']} workers train" + (f"; before, {last}" if last else "")
    return Phase.PENDING, "Starting", "workers are to start"


def _last_failure(workers: Sequence[Worker]) -> str:
    """What the worker said that failed last; empty: none has."""
    failed = [worker for worker in workers if worker.exit_code]
    if not failed:
        return ""
    # When one ends all do: what it was shall be told, not what became of the others.
    last = max(failed, key=lambda worker: (worker.exit_code != Ending.PEER_LOST, worker.ended, worker.index))
    return f"worker {last.index} ended with {last.exit_code}: {_reason(last.message)}"


def _reason(message: str) -> str:
    """What a worker said when it ended: the reason in its JSON, or all of it where it was kept from saying that."""
    told = [line["reason"] for line in _lines(message) if isinstance(line.get("reason"), str)]
    return (told[-1] if told else message.strip())[-MOST_CHARACTERS:] or "it said nothing"


def _progress(chief: str) -> str:
    """The newest epoch of which the first worker's log tells, as 3/12."""
    for told in reversed(_lines(chief)):
        if isinstance(told.get("epoch"), int) and isinstance(told.get("epochs"), int):
            return f"{told['epoch']}/{told['epochs']}"
    return ""


def _version(workers: Sequence[Worker]) -> int | None:
    """What the first worker says that it registered."""
    for worker in workers:
        for told in _lines(worker.message) if worker.index == 0 and worker.exit_code == 0 else ():
            if isinstance(told.get("version"), int):
                return int(told["version"])
    return None


def _lines(text: str) -> Sequence[Mapping[str, Any]]:
    """The lines that are JSON objects."""
    found = []
    for line in text.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict):
            found.append(told)
    return found


def _conditions(run: Object, phase: Phase, reason: str, message: str, now: str) -> Sequence[Mapping[str, Any]]:
    return conditions(course(phase, reason, message), run.generation, run.status, now)
