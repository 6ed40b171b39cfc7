"""Devices that are nodes of a cluster: their labels, and whether they are ready, cordoned or gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.console import Console

from cloud.fleet import commands
from cloud.fleet.entities import Node, NodeState
from cloud.fleet.routes import device_json
from tests.unit.cloud.rollouts.small_fleet import World


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    world = World(database_url, devices=2)
    yield world
    world.database.close()


def labelled_since(world: World, since_ms: int) -> dict[str, object]:
    with world.database.reading() as transaction:
        return dict(world.fleet.labelled_since(transaction, since_ms))


def test_a_device_has_its_nodes_labels_beside_its_own(world: World) -> None:
    world.fleet.take_node(Node("edge-1", {"zone": "north"}), world.now_ms)
    assert world.fleet.device("edge-1").labels == {"site": "b", "zone": "north"}
    assert world.fleet.labels()["edge-1"] == {"site": "b", "zone": "north"}
    assert world.fleet.device("edge-2").labels == {"site": "a"}


def test_where_both_have_a_label_the_nodes_counts(world: World) -> None:
    world.fleet.take_node(Node("edge-1", {"site": "z"}), world.now_ms)
    assert world.fleet.device("edge-1").labels == {"site": "z"}


def test_a_new_label_of_a_node_is_news_for_rollouts(world: World) -> None:
    later_ms = world.now_ms + 1000
    world.fleet.take_node(Node("edge-1", {"zone": "north"}), later_ms)
    assert labelled_since(world, later_ms) == {"edge-1": {"site": "b", "zone": "north"}}


def test_a_node_that_says_the_same_or_is_cordoned_is_no_news_of_labels(world: World) -> None:
    world.fleet.take_node(Node("edge-1", {"zone": "north"}), world.now_ms)
    world.fleet.take_node(Node("edge-1", {"zone": "north"}, cordoned=True), world.now_ms + 1000)
    assert labelled_since(world, world.now_ms + 1000) == {}


def test_of_several_nodes_only_the_one_with_new_labels_is_news(world: World) -> None:
    world.fleet.take_nodes([Node("edge-1", {"zone": "north"}), Node("edge-2", {"zone": "north"})], world.now_ms)
    later_ms = world.now_ms + 1000
    told = [Node("edge-1", {"zone": "north"}, cordoned=True), Node("edge-2", {"zone": "south"})]
    world.fleet.take_nodes(told, later_ms)
    assert labelled_since(world, later_ms) == {"edge-2": {"site": "a", "zone": "south"}}
    assert [device.node for device in world.fleet.devices()] == told


def test_a_node_is_known_before_its_device_reports(world: World) -> None:
    world.fleet.take_node(Node("edge-9", {"zone": "north"}), world.now_ms)
    assert [device.id for device in world.fleet.devices()] == ["edge-1", "edge-2"]


def test_a_node_that_is_not_among_all_is_gone(world: World) -> None:
    world.fleet.take_nodes([Node("edge-1"), Node("edge-2", state=NodeState.NOT_READY)], world.now_ms)
    world.fleet.take_nodes([Node("edge-2", state=NodeState.NOT_READY)], world.now_ms)
    found = {device.id: device.node and device.node.state for device in world.fleet.devices()}
    assert found == {"edge-1": NodeState.GONE, "edge-2": NodeState.NOT_READY}


def test_a_node_that_comes_back_is_there_again(world: World) -> None:
    world.fleet.take_nodes([Node("edge-1")], world.now_ms)
    world.fleet.take_nodes([], world.now_ms)
    world.fleet.take_node(Node("edge-1"), world.now_ms)
    assert world.fleet.device("edge-1").node == Node("edge-1")


def test_cordoned_nodes_are_closed(world: World) -> None:
    world.fleet.take_nodes([Node("edge-1", cordoned=True), Node("edge-2")], world.now_ms)
    with world.database.reading() as transaction:
        assert world.fleet.closed(transaction) == {"edge-1"}


def test_a_device_that_is_no_node_has_none(world: World) -> None:
    assert world.fleet.device("edge-1").node is None
    assert device_json(world.fleet.device("edge-1"))["node"] is None


def test_the_list_of_devices_shows_what_nodes_there_are(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    def shown() -> str:
        Console(width=200).print(commands._draw([device_json(device) for device in world.fleet.devices()]))
        return capsys.readouterr().out

    assert "node" not in shown()
    world.fleet.take_node(Node("edge-1", state=NodeState.NOT_READY, cordoned=True), world.now_ms)
    assert device_json(world.fleet.device("edge-1"))["node"] == {"state": "not_ready", "cordoned": True}
    assert "not ready, cordoned" in shown()
