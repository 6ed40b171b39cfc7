"""A TrainingRun's life at a real API server: its Job is the controllers', its pods' ends are told by hand."""

from __future__ import annotations

import json
from typing import Any

import kubernetes
import pytest
from kubernetes.client import ApiException

from cloud.cluster import jobs
from cloud.cluster.entities import RUNS, Object
from tests.cluster.api.live_kit import NAMESPACE, WORKSHOP, Live
from tests.cluster.api.objects_kit import Objects

pytestmark = pytest.mark.timeout(300)

SPEC: dict[str, Any] = {
    "model": "digits",
    "data": "digits",
    "epochs": 3,
    "workers": 2,
    "checkpoints": {"persistentVolumeClaim": "kept"},
}


class Pods:
    """A run's pods, and what a kubelet would tell of them."""

    def __init__(self, client: kubernetes.client.ApiClient, run: str) -> None:
        self._core = kubernetes.client.CoreV1Api(client)
        self._run = run

    def alive(self) -> dict[int, Any]:
        """By index, those that have not ended."""
        wanted = f"batch.kubernetes.io/job-name={self._run}"
        found = self._core.list_namespaced_pod(NAMESPACE, label_selector=wanted).items
        index = "batch.kubernetes.io/job-completion-index"
        return {
            int(pod.metadata.annotations[index]): pod
            for pod in found
            if pod.status.phase not in {"Failed", "Succeeded"}
        }

    def end(self, index: int, code: int, message: str = "") -> None:
        ended = {"exitCode": code, "message": message, "finishedAt": "2026-11-25T10:00:00Z", "reason": "Ended"}
        container = {"name": "worker", "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
        status = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [container | {"state": {"terminated": ended}}],
        }
        self._core.patch_namespaced_pod_status(self.alive()[index].metadata.name, NAMESPACE, {"status": status})


@pytest.fixture
def run(request: pytest.FixtureRequest) -> str:
    """A name of its own: what a run leaves is taken away by Kubernetes in its own time."""
    return request.node.name.replace("_", "-")[5:40].strip("-")


@pytest.fixture
def pods(client: kubernetes.client.ApiClient, run: str) -> Pods:
    return Pods(client, run)


@pytest.fixture
def batch(client: kubernetes.client.ApiClient) -> kubernetes.client.BatchV1Api:
    return kubernetes.client.BatchV1Api(client)


def test_it_becomes_an_indexed_job_with_a_name_for_each_worker(
    live: Live, shore: Objects, run: str, pods: Pods, client: kubernetes.client.ApiClient
) -> None:
    shore.create(RUNS, SPEC, run)
    live.until(lambda: set(pods.alive()) == {0, 1})
    pod = pods.alive()[1]
    assert (pod.spec.hostname, pod.spec.subdomain) == (f"{run}-1", run)
    assert pod.spec.service_account_name == "littoral-training"
    assert [one.name for one in pod.spec.containers[0].env].count("JOB_COMPLETION_INDEX") == 1
    service = kubernetes.client.CoreV1Api(client).read_namespaced_service(run, NAMESPACE)
    assert service.spec.cluster_ip == "None"
    live.until(lambda: shore.status(RUNS, run).get("active") == 2)


def test_a_lost_worker_is_replaced_and_the_run_ends_with_the_version(
    live: Live, shore: Objects, run: str, pods: Pods
) -> None:
    shore.create(RUNS, SPEC, run)
    live.until(lambda: set(pods.alive()) == {0, 1})
    pods.end(1, 137, "OOMKilled")
    live.until(lambda: shore.status(RUNS, run).get("restarts") == 1)
    live.until(lambda: set(pods.alive()) == {0, 1})
    pods.end(0, 0, json.dumps({"model": "digits", "version": 4}))
    pods.end(1, 0)
    live.until(lambda: shore.status(RUNS, run).get("phase") == "Succeeded")
    shown = {name: shore.status(RUNS, run)[name] for name in ("version", "restarts", "observedGeneration")}
    assert shown == {"version": 4, "restarts": 1, "observedGeneration": 1}


def test_a_failed_run_says_what_its_worker_said(live: Live, shore: Objects, run: str, pods: Pods) -> None:
    shore.create(RUNS, SPEC | {"workers": 1, "backoffLimit": 0}, run)
    live.until(lambda: set(pods.alive()) == {0})
    pods.end(0, 1, "there is no MNIST in /data")
    live.until(lambda: shore.status(RUNS, run).get("phase") == "Failed")
    found = shore.status(RUNS, run)
    assert found["message"] == "worker 0 ended with 1: there is no MNIST in /data"
    (stalled,) = (one for one in found["conditions"] if one["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "BackoffLimitExceeded")


def test_what_repeating_does_not_mend_fails_at_once(live: Live, shore: Objects, run: str, pods: Pods) -> None:
    shore.create(RUNS, SPEC, run)
    live.until(lambda: set(pods.alive()) == {0, 1})
    pods.end(0, 65, json.dumps({"event": "failed", "code": 65, "reason": "these are no images"}))
    live.until(lambda: shore.status(RUNS, run).get("phase") == "Failed")
    assert shore.status(RUNS, run)["message"] == "worker 0 ended with 65: these are no images"


def test_a_worker_that_lost_another_is_replaced_and_not_counted(
    live: Live, shore: Objects, run: str, pods: Pods
) -> None:
    shore.create(RUNS, SPEC | {"backoffLimit": 0}, run)
    live.until(lambda: set(pods.alive()) == {0, 1})
    before = pods.alive()[1].metadata.name
    pods.end(1, 75)
    live.until(lambda: 1 in pods.alive() and pods.alive()[1].metadata.name != before)
    assert shore.status(RUNS, run)["phase"] != "Failed"


def test_its_pods_pass_the_strictest_pod_security(client: kubernetes.client.ApiClient, namespace: str) -> None:
    core = kubernetes.client.CoreV1Api(client)
    core.patch_namespace(namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    core.create_namespaced_service_account(namespace, {"metadata": {"name": WORKSHOP.account}})
    spec = SPEC | {"seed": 1, "backoffLimit": 6}
    template = jobs.job(Object(namespace, "train", "uid", 1, spec, {}), WORKSHOP)["spec"]["template"]
    core.create_namespaced_pod(namespace, {"metadata": {"name": "train"}, "spec": template["spec"]}, dry_run="All")


def test_deleted_it_takes_its_job_with_it(
    live: Live, shore: Objects, run: str, batch: kubernetes.client.BatchV1Api
) -> None:
    shore.create(RUNS, SPEC, run)
    live.until(lambda: "job" in shore.status(RUNS, run))
    shore.delete(RUNS, run)
    live.until(lambda: not shore.exists(RUNS, run))
    live.until(lambda: not _exists(batch, run))


def test_a_job_of_someone_else_is_not_taken_for_its_own(
    live: Live, shore: Objects, run: str, batch: kubernetes.client.BatchV1Api
) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "other", "image": "none"}]}
    batch.create_namespaced_job(NAMESPACE, {"metadata": {"name": run}, "spec": {"template": {"spec": pod}}})
    shore.create(RUNS, SPEC, run)
    live.until(lambda: "there is another Job" in shore.status(RUNS, run).get("message", ""))
    batch.delete_namespaced_job(run, NAMESPACE, propagation_policy="Background")
    live.until(lambda: "job" in shore.status(RUNS, run))


def _exists(batch: kubernetes.client.BatchV1Api, name: str) -> bool:
    try:
        batch.read_namespaced_job(name, NAMESPACE)
    except ApiException as error:
        if error.status != 404:
            raise
        return False
    return True
