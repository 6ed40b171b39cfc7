"""Every object of both charts, under the matrix of values, as the API server judges it; nothing of it is made."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml

from simulators.kubernetes import control_plane
from tests.charts import CLOUD, EDGE, HELM, MONITORED, ROOT, Object, pods, render, tools
from tests.cluster.missing import or_skipped

pytestmark = pytest.mark.timeout(300)

LEVELS = {"shore": "restricted", "devices": "privileged"}
MONITORED_EDGE = {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}
Values = Mapping[str, Any]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a control plane with a namespace that Pod Security holds to `restricted`, and one that it leaves alone."""
    with or_skipped(), control_plane(tmp_path_factory.mktemp("plane")) as config:
        core = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(config)))
        for name, level in LEVELS.items():
            labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
            core.create_namespace({"metadata": {"name": name, "labels": labels}})
        yield config


@pytest.fixture(scope="module")
def foreign_kinds(kubeconfig: Path) -> None:
    """K3s's HelmChart and the Prometheus operator's kinds, as their projects define them."""
    done = subprocess.run([ROOT / "scripts" / "kinds", "--cached"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    kubectl(kubeconfig, "apply", "--server-side", "--filename", done.stdout.strip())
    kubectl(kubeconfig, "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")


def kubectl(kubeconfig: Path, *arguments: str) -> None:
    subprocess.run([tools() / "kubectl", "--kubeconfig", kubeconfig, *arguments], capture_output=True, check=True)


def tried(kubeconfig: Path, namespace: str, objects: list[Object]) -> subprocess.CompletedProcess[str]:
    """What the API server says to `objects`: unknown fields are errors, and so is what Pod Security refuses."""
    command = [str(tools() / "kubectl"), "--kubeconfig", str(kubeconfig), "--namespace", namespace]
    command += ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", "-"]
    text = yaml.dump_all(objects, Dumper=yaml.CSafeDumper)
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def as_pods(objects: list[Object]) -> list[Object]:
    """The pods that a controller would make of them: Pod Security refuses pods, and only warns of what makes them."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name.lower().replace("/", "-"), "labels": pod["metadata"].get("labels", {})},
            "spec": {**without_claims(pod["spec"]), "priorityClassName": ""},
        }
        for name, pod in pods(objects)
    ]


def without_claims(spec: Object) -> Object:
    """With the volume that a StatefulSet's claim gives its pods; the account that the chart makes is not made here."""
    found = copy.deepcopy(spec)
    found.pop("serviceAccountName", None)
    there = {volume["name"] for volume in found.get("volumes", [])}
    mounted = {mount["name"] for one in found["containers"] for mount in one.get("volumeMounts", [])}
    claims = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in sorted(mounted - there)]
    found["volumes"] = [*found.get("volumes", []), *claims]
    return found


def without_the_node(spec: Object) -> Object:
    """The agent's pod but for what its README says that `restricted` forbids: a hostPath, and who gives it away."""
    found = copy.deepcopy(spec)
    found.pop("initContainers", None)
    for volume in found["volumes"]:
        if volume.pop("hostPath", None):
            volume["emptyDir"] = {}
    return found


@pytest.mark.parametrize("values", CLOUD.values(), ids=CLOUD)
def test_the_api_takes_every_object_of_the_cloud_without_a_warning(kubeconfig: Path, values: Values) -> None:
    done = tried(kubeconfig, "shore", render("littoral", values))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("values", CLOUD.values(), ids=CLOUD)
def test_every_pod_of_the_cloud_passes_restricted(kubeconfig: Path, values: Values) -> None:
    made = as_pods(render("littoral", values))
    done = tried(kubeconfig, "shore", made)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("serverside-applied") == len(made)


@pytest.mark.parametrize("values", EDGE.values(), ids=EDGE)
def test_the_api_takes_every_object_of_the_edge_without_a_warning(kubeconfig: Path, values: Values) -> None:
    done = tried(kubeconfig, "devices", edge(values))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_agents_pod_passes_restricted_but_for_its_folder_on_the_node(kubeconfig: Path) -> None:
    (pod,) = as_pods(edge({}))
    assert "violates PodSecurity" in tried(kubeconfig, "shore", [pod]).stderr
    done = tried(kubeconfig, "shore", [{**pod, "spec": without_the_node(pod["spec"])}])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("foreign_kinds")
def test_the_prometheus_operator_understands_what_is_to_be_watched(kubeconfig: Path) -> None:
    for namespace, objects in (("shore", render("littoral", MONITORED)), ("devices", edge(MONITORED_EDGE))):
        done = tried(kubeconfig, namespace, objects)
        assert (done.returncode, done.stderr) == (0, "")
        assert "monitoring.coreos.com" in done.stdout


@pytest.mark.usefixtures("foreign_kinds")
def test_k3s_understands_its_manifest(kubeconfig: Path) -> None:
    charts = list(yaml.safe_load_all((HELM / "k3s" / "littoral.yaml").read_text()))
    done = tried(kubeconfig, "kube-system", charts)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("helmchart.helm.cattle.io") == 2


def edge(values: Values) -> list[Object]:
    """The chart's objects."""
    return render("littoral-edge", values, "agents")
