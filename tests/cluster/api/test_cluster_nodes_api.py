"""Nodes are devices: their labels, cordons and absence, from a real API server to the rollouts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes
import pytest
from kubernetes.client import ApiException

from cloud.cluster.entities import GROUPS, ROLLOUTS
from cloud.fleet.entities import NodeState
from tests.cluster.api.live_kit import Live
from tests.cluster.api.objects_kit import Objects

pytestmark = pytest.mark.timeout(300)


class Nodes:
    """Node objects without a kubelet: nobody renews them, so they become NotReady after some seconds."""

    def __init__(self, client: kubernetes.client.ApiClient) -> None:
        self._core = kubernetes.client.CoreV1Api(client)

    def join(self, name: str, **labels: str) -> None:
        self._core.create_node({"metadata": {"name": name, "labels": labels}})
        ready = {"type": "Ready", "status": "True"}
        self._core.patch_node_status(name, {"status": {"conditions": [ready]}})

    def cordon(self, name: str, *, cordoned: bool = True) -> None:
        self._core.patch_node(name, {"spec": {"unschedulable": cordoned}})

    def label(self, name: str, **labels: str) -> None:
        self._core.patch_node(name, {"metadata": {"labels": labels}})

    def remove(self, name: str) -> None:
        try:
            self._core.delete_node(name)
        except ApiException as error:
            if error.status != 404:
                raise

    def remove_all(self) -> None:
        for node in self._core.list_node().items:
            self.remove(node.metadata.name)


@pytest.fixture
def nodes(live: Live, client: kubernetes.client.ApiClient) -> Iterator[Nodes]:  # noqa: ARG001 - it sees them go, too
    made = Nodes(client)
    yield made
    made.remove_all()


def state(live: Live, device: str) -> NodeState | None:
    node = live.world.fleet.device(device).node
    return node.state if node else None


def test_a_nodes_labels_become_its_devices(live: Live, nodes: Nodes) -> None:
    nodes.join("edge-1", **{"littoral.dev/site": "harbour", "topology.kubernetes.io/zone": "north"})
    live.until(lambda: live.world.fleet.device("edge-1").labels.get("site") == "harbour")
    assert live.world.fleet.device("edge-1").labels["topology.kubernetes.io/zone"] == "north"
    nodes.label("edge-1", **{"littoral.dev/site": "quay"})
    live.until(lambda: live.world.fleet.device("edge-1").labels.get("site") == "quay")


def test_a_node_that_joins_a_selection_gets_the_model(live: Live, nodes: Nodes, shore: Objects) -> None:
    nodes.join("edge-1", zone="north")
    nodes.join("edge-2")
    spec: dict[str, Any] = {"model": "digits", "version": 1, "selector": {"zone": "north"}, "waves": ["rest"]}
    shore.create(ROLLOUTS, spec | {"gates": {"soakSeconds": 5}})
    live.until(lambda: shore.status(ROLLOUTS).get("devices", {}).get("total") == 1)
    nodes.label("edge-2", zone="north")
    live.until(lambda: shore.status(ROLLOUTS).get("phase") == "Succeeded")
    assert shore.status(ROLLOUTS)["done"] == "2/2"


def test_a_cordoned_node_is_held_and_gets_the_model_once_it_is_uncordoned(
    live: Live, nodes: Nodes, shore: Objects
) -> None:
    nodes.join("edge-2")
    nodes.cordon("edge-2")
    live.until(lambda: bool((node := live.world.fleet.device("edge-2").node) and node.is_closed))
    shore.create(ROLLOUTS, {"model": "digits", "version": 1})
    live.until(lambda: shore.status(ROLLOUTS).get("done") == "2/3")
    found = shore.status(ROLLOUTS)
    assert (found["phase"], found["devices"]["held"]) == ("Progressing", 1)
    assert "1 held (their nodes are cordoned)" in found["message"]
    nodes.cordon("edge-2", cordoned=False)
    live.until(lambda: shore.status(ROLLOUTS).get("phase") == "Succeeded")


def test_a_node_that_nobody_renews_is_seen_as_not_ready_and_one_that_is_deleted_as_gone(
    live: Live, nodes: Nodes, shore: Objects
) -> None:
    nodes.join("edge-1")
    shore.create(GROUPS, {"selector": {"matchLabels": {}}})
    live.until(lambda: state(live, "edge-1") is NodeState.READY)
    live.until(lambda: state(live, "edge-1") is NodeState.NOT_READY)
    live.until(lambda: shore.status(GROUPS).get("notReady") == 1)
    nodes.remove("edge-1")
    live.until(lambda: state(live, "edge-1") is NodeState.GONE)


def test_a_node_that_went_while_nobody_watched_is_gone(live: Live, nodes: Nodes) -> None:
    nodes.join("edge-1")
    live.until(lambda: state(live, "edge-1") is not None)
    live.stop()
    nodes.remove("edge-1")
    live.start("two")
    live.until(lambda: state(live, "edge-1") is NodeState.GONE)
