"""A node of a cluster as the fleet sees it."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.cluster import nodes
from cloud.fleet.entities import Node, NodeState


def manifest(name: str = "edge-1", *, ready: str = "True", **given: Any) -> dict[str, Any]:
    status = {"conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}]}
    return {"metadata": {"name": name}, "spec": {}, "status": status} | given


def test_a_node_is_the_device_of_its_name() -> None:
    assert nodes.node(manifest()) == Node("edge-1", {}, NodeState.READY, cordoned=False)


@pytest.mark.parametrize("ready", ["False", "Unknown"])
def test_a_node_that_does_not_say_that_it_is_ready_is_not(ready: str) -> None:
    found = nodes.node(manifest(ready=ready))
    assert found
    assert found.state is NodeState.NOT_READY


def test_a_node_that_just_joined_is_not_ready_yet() -> None:
    found = nodes.node({"metadata": {"name": "edge-1"}, "spec": {}})
    assert found
    assert found.state is NodeState.NOT_READY


def test_a_cordoned_node_is_closed_until_it_is_gone() -> None:
    cordoned = manifest(spec={"unschedulable": True})
    here, gone = nodes.node(cordoned), nodes.node(cordoned, gone=True)
    assert here
    assert gone
    assert here.is_closed
    assert not gone.is_closed


def test_labels_keep_their_names_and_ours_have_a_short_one_too() -> None:
    labels = {"littoral.dev/site": "a", "topology.kubernetes.io/zone": "north", "disk": "ssd"}
    assert nodes.device_labels(labels) == labels | {"site": "a"}


def test_a_node_whose_name_no_device_can_have_is_none() -> None:
    assert nodes.node(manifest("x" * 64)) is None
