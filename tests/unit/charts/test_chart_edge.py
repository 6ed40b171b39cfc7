"""The edge's chart: a node is a device, its data outlives its pod."""

from __future__ import annotations

import pytest

from edge.cli import STOP_S
from edge.foundation.settings import EdgeSettings
from protos.kit import settings
from tests.charts import EDGE, Object, named, pods, render

NODE = "edge-1"


def agents(case: str = "as it comes") -> Object:
    return named(render("littoral-edge", EDGE[case], "agents"), "DaemonSet", "agents")


def pod(case: str = "as it comes") -> Object:
    spec: Object = agents(case)["spec"]["template"]["spec"]
    return spec


def loaded(container: Object, monkeypatch: pytest.MonkeyPatch) -> EdgeSettings:
    """The settings that the agent reads from its container's variables; a wrong name or value raises."""
    for variable in container["env"]:
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        secret = variable.get("valueFrom", {}).get("secretKeyRef")
        value = NODE if field == "spec.nodeName" else "mqtt://device:d@broker" if secret else variable["value"]
        monkeypatch.setenv(variable["name"], value)
    return settings.load(EdgeSettings)


@pytest.mark.parametrize("case", EDGE)
def test_the_agent_understands_its_settings(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(pod(case)["containers"][0], monkeypatch)
    assert found.id == NODE
    assert found.broker == "mqtt://device:d@broker"
    assert found.monitor == "0.0.0.0:9464"


def test_labels_and_settings_of_the_values_reach_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(pod("everything said")["containers"][0], monkeypatch)
    assert found.labels == {"site": "harbour", "line": "2"}
    assert found.outbox_bytes == 1073741824
    assert found.slots == {"default": 2, "doors": 1}
    assert found.api == "http://littoral-api.littoral.svc:8080"


def test_its_data_lies_on_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = pod()
    (data,) = (volume for volume in spec["volumes"] if volume["name"] == "data")
    assert data["hostPath"] == {"path": "/var/lib/littoral-edge", "type": "DirectoryOrCreate"}
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["data"] == str(loaded(spec["containers"][0], monkeypatch).dir)


def test_only_the_container_that_gives_the_folder_away_is_root() -> None:
    (prepare,) = pod()["initContainers"]
    assert prepare["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN", "FOWNER"]}
    assert pod()["securityContext"]["runAsUser"] == 10001
    assert "initContainers" not in pod("folders made by hand")


def test_a_folder_that_is_made_by_hand_must_be_there() -> None:
    (data,) = (volume for volume in pod("folders made by hand")["volumes"] if volume["name"] == "data")
    assert data["hostPath"] == {"path": "/srv/littoral", "type": "Directory"}


@pytest.mark.parametrize("case", EDGE)
def test_it_is_privileged_only_where_it_opens_device_nodes(case: str) -> None:
    context = pod(case)["containers"][0]["securityContext"]
    assert context.get("privileged", False) == (case == "a camera")
    assert (context.get("allowPrivilegeEscalation") is False) == (case != "a camera")


def test_device_nodes_are_mounted_where_they_are_on_the_node() -> None:
    spec = pod("a camera")
    mounted = [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"] if "device-" in mount["name"]]
    paths = [volume["hostPath"]["path"] for volume in spec["volumes"] if "device-" in volume["name"]]
    assert mounted == paths == ["/dev/video0", "/dev/ttyUSB0"]
    assert spec["securityContext"]["supplementalGroups"] == [44, 20]


@pytest.mark.parametrize("case", EDGE)
def test_two_agents_never_run_on_one_node(case: str) -> None:
    strategy = agents(case)["spec"]["updateStrategy"]
    assert strategy["type"] == "OnDelete" or strategy["rollingUpdate"]["maxSurge"] == 0


def test_it_ends_by_itself_within_the_period() -> None:
    assert pod()["terminationGracePeriodSeconds"] > STOP_S


def test_a_device_without_a_model_does_not_stop_an_upgrade_unless_it_shall() -> None:
    assert pod()["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert pod("everything said")["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("as it comes", "agents"),
        ("a priority class of one's own", "system-node-critical"),
        ("no priority class", None),
    ],
)
def test_its_priority_is_the_releases_or_one_of_the_clusters_or_none(case: str, name: str | None) -> None:
    objects = render("littoral-edge", EDGE[case], "agents")
    made = [found["metadata"]["name"] for found in objects if found["kind"] == "PriorityClass"]
    assert named(objects, "DaemonSet", "agents")["spec"]["template"]["spec"].get("priorityClassName") == name
    assert made == (["agents"] if case == "as it comes" else [])


def test_nothing_but_its_metrics_can_be_asked_over_the_network() -> None:
    objects = render("littoral-edge", {}, "agents")
    (rule,) = named(objects, "NetworkPolicy", "agents")["spec"]["ingress"]
    ((_, template),) = pods(objects)
    assert rule["ports"] == [{"port": "metrics"}]
    assert [port["name"] for port in template["spec"]["containers"][0]["ports"]] == ["metrics"]
