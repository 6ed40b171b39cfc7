"""A control plane without nodes: enough for what is decided by the API, the controllers and the scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest

from simulators.kubernetes import control_plane
from tests.cluster.missing import or_skipped
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kubernetes.client.ApiClient]:
    with or_skipped(), control_plane(tmp_path_factory.mktemp("plane")) as config:
        yield kubernetes.config.new_client_from_config(str(config))


def _node(name: str) -> kubernetes.client.V1Node:
    ready = kubernetes.client.V1NodeCondition(type="Ready", status="True")
    status = kubernetes.client.V1NodeStatus(conditions=[ready], allocatable={"pods": "10", "cpu": "1", "memory": "1Gi"})
    return kubernetes.client.V1Node(metadata={"name": name}, status=status)


def test_the_controllers_make_the_pods_of_a_job(api: kubernetes.client.ApiClient) -> None:
    container = kubernetes.client.V1Container(name="one", image="none")
    pod = kubernetes.client.V1PodSpec(restart_policy="Never", containers=[container])
    template = kubernetes.client.V1PodTemplateSpec(spec=pod)
    spec = kubernetes.client.V1JobSpec(template=template, completions=2, parallelism=2, completion_mode="Indexed")
    job = kubernetes.client.V1Job(metadata={"name": "twice"}, spec=spec)

    kubernetes.client.BatchV1Api(api).create_namespaced_job("default", job)

    pods = kubernetes.client.CoreV1Api(api)
    until(lambda: len(pods.list_namespaced_pod("default", label_selector="job-name=twice").items) == 2)


def test_a_node_that_nobody_renews_becomes_unknown(api: kubernetes.client.ApiClient) -> None:
    nodes = kubernetes.client.CoreV1Api(api)
    nodes.create_node(_node("silent"))
    nodes.patch_node_status("silent", _node("silent"))

    until(
        lambda: [it.status for it in nodes.read_node("silent").status.conditions if it.type == "Ready"] == ["Unknown"]
    )


def test_two_control_planes_know_nothing_of_each_other(api: kubernetes.client.ApiClient, tmp_path: Path) -> None:
    kubernetes.client.CoreV1Api(api).create_namespace({"metadata": {"name": "ours"}})

    with control_plane(tmp_path) as config:
        other = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(config)))
        assert "ours" not in {it.metadata.name for it in other.list_namespace().items}
