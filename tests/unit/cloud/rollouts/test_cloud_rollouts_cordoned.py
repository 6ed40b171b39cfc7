"""A device whose node is cordoned is given no new model; no wave waits for it, and it gets the model afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_fleet import World, manifest_of

from cloud.fleet.entities import Node, NodeState
from cloud.rollouts.entities import MemberState, Rollout, State


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    world = World(database_url)
    yield world
    world.database.close()


def cordon(world: World, *devices: str, state: NodeState = NodeState.READY) -> None:
    """These, and no others."""
    known = [Node(name, cordoned=name in devices, state=state) for name in world.devices]
    world.fleet.take_nodes(known, world.now_ms)


def states(world: World, rollout: Rollout) -> dict[str, MemberState]:
    return {member.device: member.state for member in world.rollouts.get(rollout.id).members.values()}


def test_it_is_held_while_the_others_go_on(world: World) -> None:
    cordon(world, "edge-2")
    rollout = world.create(1, "1", "rest")
    world.turns(10)
    found = states(world, rollout)
    assert found.pop("edge-2") is MemberState.HELD
    assert set(found.values()) == {MemberState.SUCCEEDED}
    assert world.rollouts.get(rollout.id).state is State.RUNNING
    assert world.fleet.desired("edge-2") is None


def test_it_says_why(world: World) -> None:
    cordon(world, "edge-2")
    rollout = world.create(1)
    assert rollout.members["edge-2"].reason == "its node is cordoned"


def test_uncordoned_it_is_given_the_version_and_the_rollout_ends(world: World) -> None:
    cordon(world, "edge-2")
    rollout = world.create(1)
    world.turns(10)
    cordon(world)
    assert world.until_end(rollout).state is State.SUCCEEDED
    assert world.running() == {manifest_of(1)}


def test_it_is_no_canary(world: World) -> None:
    cordon(world, "edge-1")
    rollout = world.create(1, "1", "rest")
    assert {member.device for member in rollout.members.values() if member.wave == 0} == {"edge-2"}


def test_a_wave_of_held_devices_waits(world: World) -> None:
    cordon(world, *world.devices)
    rollout = world.create(1)
    world.turns(10)
    assert set(states(world, rollout).values()) == {MemberState.HELD}
    assert world.rollouts.get(rollout.id).state is State.RUNNING


def test_cordoned_under_way_what_was_given_is_judged_and_the_rest_is_held(world: World) -> None:
    rollout = world.create(1, "1", "rest")
    cordon(world, "edge-1", "edge-2")
    world.turns(10)
    found = states(world, rollout)
    assert found["edge-1"] is MemberState.SUCCEEDED
    assert found["edge-2"] is MemberState.HELD


def test_a_node_that_is_gone_is_cared_for_by_nobody_and_holds_nothing(world: World) -> None:
    cordon(world, "edge-2")
    rollout = world.create(1)
    world.turns(5)
    world.fleet.take_nodes([], world.now_ms)
    assert world.until_end(rollout).state is State.SUCCEEDED


def test_a_newer_rollout_takes_a_held_device_over(world: World) -> None:
    cordon(world, "edge-2")
    older = world.create(1)
    newer = world.create(2)
    world.turns(10)
    assert states(world, older)["edge-2"] is MemberState.SUPERSEDED
    assert states(world, newer)["edge-2"] is MemberState.HELD
    assert world.rollouts.get(older.id).state not in {State.RUNNING, State.PAUSED}


def test_aborting_gives_a_held_device_nothing(world: World) -> None:
    cordon(world, "edge-2")
    rollout = world.create(1)
    world.turns(5)
    world.rollouts.abort(rollout.id, world.now_ms)
    cordon(world)
    world.turns(5)
    assert world.fleet.desired("edge-2") is None


def test_a_device_that_joins_on_a_cordoned_node_is_held(world: World) -> None:
    world.devices["edge-5"].site = "elsewhere"
    world.turns(1)
    rollout = world.create(1, site="b")
    cordon(world, "edge-5")
    world.devices["edge-5"].site = "b"
    world.turns(10)
    assert states(world, rollout)["edge-5"] is MemberState.HELD
