"""Who reaches whom, with the charts' NetworkPolicies in force: what docs/kubernetes.md names, and nothing else."""

from __future__ import annotations

import json

import pytest

from tests.cluster.fleet.fleet_kit import AGENTS, CLOUD, EDGE, GIVEN, PULL, Fleet
from tests.cluster.fleet.images_kit import NOW
from tests.waiting import until

PLACES = {
    "database": f"littoral-postgresql.{CLOUD}.svc:5432",
    "broker": f"littoral-mosquitto.{CLOUD}.svc:1883",
    "ingest": f"littoral-ingest.{CLOUD}.svc:8081",
    "api": f"littoral-api.{CLOUD}.svc:8080",
    "kubernetes": "kubernetes.default.svc:443",
}
ASK = """
import json, socket, sys, time
def answers(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True
deadline = time.monotonic() + 30
while True:
    said = sorted(name for name, place in json.loads(sys.argv[1]).items() if answers(place))
    if said == sys.argv[2].split() or time.monotonic() > deadline:
        break
    time.sleep(0.5)
print(json.dumps(said))
"""
"""It asks again until it is as expected: a moment passes until a new pod is let in, or kept out, everywhere."""


def reached(said: str) -> set[str]:
    """Which of the places answered, by what ASK printed."""
    return set(json.loads(said.splitlines()[-1]))


def from_stray(fleet: Fleet, namespace: str, expected: set[str]) -> set[str]:
    """What a pod reaches that is none of Littoral's."""
    secured = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "stray",
        "image": f"littoral-cloud:{NOW}",
        "imagePullPolicy": PULL,
        "command": _asking(expected),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {"containers": [container], "restartPolicy": "Never", "securityContext": secured}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stray"}, "spec": spec}
    fleet.apply(pod, namespace=namespace)
    until(lambda: fleet.named("pod", "stray", namespace)["status"]["phase"] in {"Succeeded", "Failed"}, 0.5)
    said = fleet.kubectl("-n", namespace, "logs", "stray")
    fleet.kubectl("-n", namespace, "delete", "pod", "stray", "--wait=false")
    return reached(said)


def from_pod(fleet: Fleet, pod: str, namespace: str, expected: set[str]) -> set[str]:
    """What one of Littoral's own pods reaches."""
    return reached(fleet.kubectl("-n", namespace, "exec", pod, "--", *_asking(expected)))


def _asking(expected: set[str]) -> list[str]:
    return ["python3", "-c", ASK, json.dumps(PLACES), " ".join(sorted(expected))]


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        ("default", {"broker", "kubernetes"}),
        (CLOUD, {"broker", "kubernetes", "api"}),
        (EDGE, {"broker", "kubernetes", "api", "ingest"}),
    ],
    ids=["elsewhere", "beside the cloud", "beside the agents"],
)
def test_a_stray_pod_reaches_no_database_and_what_its_namespace_may(
    fleet: Fleet, namespace: str, expected: set[str]
) -> None:
    if GIVEN:
        expected = expected | {"api"}  # which answers whoever asks, since the tests may be anywhere
    assert from_stray(fleet, namespace, expected) == expected


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("ingest", {"database", "broker"}),
        ("publisher", {"database", "broker"}),
        ("controller", {"database", "broker", "kubernetes"}),
    ],
)
def test_a_role_reaches_what_it_needs_and_nothing_else(fleet: Fleet, role: str, expected: set[str]) -> None:
    pod = fleet.pods(f"app.kubernetes.io/component={role}")[0]
    assert from_pod(fleet, pod, CLOUD, expected) == expected


def test_an_agent_reaches_broker_ingest_and_api(fleet: Fleet) -> None:
    expected = {"broker", "ingest", "api"}
    assert from_pod(fleet, fleet.pods(AGENTS, EDGE)[0], EDGE, expected) == expected


def test_helm_test_passes_with_the_policies_in_force(fleet: Fleet) -> None:
    fleet.helm("-n", CLOUD, "test", "littoral", "--timeout", "120s")
