"""What holds for the objects of both charts, whatever the values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.charts import CLOUD, EDGE, HELM, MONITORED, Object, containers, helm, pods, render

CASES = [
    *(pytest.param("littoral", values, id=f"cloud: {name}") for name, values in CLOUD.items()),
    pytest.param("littoral", MONITORED, id="cloud: monitored"),
    *(pytest.param("littoral-edge", values, id=f"edge: {name}") for name, values in EDGE.items()),
    pytest.param("littoral-edge", {"podMonitor": {"enabled": True}}, id="edge: monitored"),
]

every_case = pytest.mark.parametrize(("chart", "values"), CASES)
Values = Mapping[str, Any]


@every_case
def test_helm_finds_nothing_to_complain_of(chart: str, values: Values) -> None:
    done = helm("lint", "--strict", str(HELM / chart), values=values)
    assert done.returncode == 0, done.stdout


@every_case
def test_no_two_objects_have_the_same_name(chart: str, values: Values) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in render(chart, values)]
    assert len(names) == len(set(names))


@every_case
def test_every_object_says_what_it_belongs_to_but_the_kinds_which_every_release_shares(
    chart: str, values: Values
) -> None:
    for found in (one for one in render(chart, values) if one["kind"] != "CustomResourceDefinition"):
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == chart
        assert labels["app.kubernetes.io/instance"] == "littoral"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


@every_case
def test_a_role_never_reads_its_settings_from_variables_that_kubernetes_makes_of_services(
    chart: str, values: Values
) -> None:
    assert all(pod["spec"]["enableServiceLinks"] is False for _, pod in pods(render(chart, values)))


@every_case
def test_only_the_controller_gets_a_token_of_the_kubernetes_api(chart: str, values: Values) -> None:
    tokens = {name for name, pod in pods(render(chart, values)) if pod["spec"]["automountServiceAccountToken"]}
    assert tokens <= {"Deployment/littoral-controller"}
    assert bool(tokens) == (chart == "littoral" and values.get("cluster", {}).get("enabled", True))


@every_case
def test_every_container_asks_for_what_it_needs_and_has_a_bound_of_memory(chart: str, values: Values) -> None:
    for _, pod in pods(render(chart, values)):
        for container in containers(pod):
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


@every_case
def test_nothing_is_written_but_to_volumes(chart: str, values: Values) -> None:
    for _, pod in pods(render(chart, values)):
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in containers(pod))


@every_case
def test_what_runs_for_long_is_asked_whether_it_has_started_lives_and_is_ready(chart: str, values: Values) -> None:
    for found in render(chart, values):
        if found["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            for container in found["spec"]["template"]["spec"]["containers"]:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


@every_case
def test_every_port_that_is_named_is_there(chart: str, values: Values) -> None:
    for _, pod in pods(render(chart, values)):
        for container in containers(pod):
            ports = {port["name"] for port in container.get("ports", [])}
            assert _probed(container) <= ports


@every_case
def test_every_volume_that_is_mounted_is_there_and_every_other_one_is_missed(chart: str, values: Values) -> None:
    for found in render(chart, values):
        claims = {claim["metadata"]["name"] for claim in found.get("spec", {}).get("volumeClaimTemplates", [])}
        for _, pod in pods([found]):
            mounted = {mount["name"] for one in containers(pod) for mount in one.get("volumeMounts", [])}
            assert mounted == {volume["name"] for volume in pod["spec"].get("volumes", [])} | claims


@every_case
def test_every_selector_finds_pods(chart: str, values: Values) -> None:
    objects = render(chart, values)
    # Training pods are made by the controller, not by the chart.
    labels = [pod["metadata"]["labels"] for _, pod in pods(objects)]
    labels.append({**labels[0], "app.kubernetes.io/component": "training"})
    for found in objects:
        for selector in _selectors(found):
            assert any(selector.items() <= one.items() for one in labels), found["metadata"]["name"]


@every_case
def test_every_port_of_a_service_is_one_of_its_pods(chart: str, values: Values) -> None:
    objects = render(chart, values)
    for service in (found for found in objects if found["kind"] == "Service"):
        selected = [pod for _, pod in pods(objects) if service["spec"]["selector"].items() <= _labels(pod).items()]
        for port in service["spec"]["ports"]:
            assert selected
            assert all(port["targetPort"] in _ports(pod) for pod in selected)


def _labels(pod: Object) -> dict[str, str]:
    labels: dict[str, str] = pod["metadata"]["labels"]
    return labels


def _ports(pod: Object) -> set[str]:
    return {port["name"] for one in containers(pod) for port in one.get("ports", [])}


def _probed(container: Object) -> set[str]:
    probes = [container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")]
    return {how["port"] for probe in probes for way, how in probe.items() if way in ("httpGet", "tcpSocket")}


def _selectors(found: Object) -> list[dict[str, str]]:
    spec = found.get("spec", {})
    if found["kind"] == "Service":
        return [spec["selector"]]
    if found["kind"] == "NetworkPolicy":
        return [spec["podSelector"].get("matchLabels", {})]
    if found["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "PodDisruptionBudget"):
        return [spec["selector"]["matchLabels"]]
    return []
