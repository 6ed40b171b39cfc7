"""What an owner of a rollout may ask beyond what a person asks: begin it once, in another's place, change its gates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_fleet import World, manifest_of

from cloud.rollouts.entities import (
    Amend,
    Gates,
    IllegalEvent,
    Lease,
    LeaseLost,
    MemberState,
    NoTargets,
    Pause,
    Request,
    Rollout,
    State,
)
from cloud.rollouts.service import Owned


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    world = World(database_url)
    yield world
    world.database.close()


REQUEST = Request("digits", 1, ("1", "rest"))


def lease(world: World) -> Lease:
    held = world.rollouts.lead("one", world.now_ms)
    assert held
    return held


def begin(world: World, name: str, *replaces: str, request: Request = REQUEST) -> Rollout:
    return world.rollouts.create(request, world.now_ms, Owned(name, replaces, lease(world)))


def test_begun_under_the_same_id_again_it_is_the_one_that_there_is(world: World) -> None:
    first = begin(world, "k-1")
    world.turns(2)
    again = begin(world, "k-1")
    assert (again.id, again.created_ms) == (first.id, first.created_ms)
    assert len(world.rollouts.list()) == 1


def standing(world: World, prefix: str) -> list[str]:
    return [one.rollout.id for one in world.rollouts.standing(prefix)]


def test_rollouts_are_found_by_how_their_ids_begin(world: World) -> None:
    for name in ("k-a_c-1", "k-abc-1", "k-a_c-2"):
        begin(world, name)
    assert standing(world, "k-a_c-") == ["k-a_c-2", "k-a_c-1"]


def test_of_those_that_have_ended_only_the_newest_is_found(world: World) -> None:
    for name in ("k-1", "k-2"):
        world.rollouts.abort(begin(world, name).id, world.now_ms)
    assert standing(world, "k-") == ["k-2"]
    begin(world, "k-3")
    assert standing(world, "k-") == ["k-3"]


def test_in_the_place_of_another_it_ends_that_and_nobody_goes_back(world: World) -> None:
    begin(world, "k-1", request=Request("digits", 1, ("1", "rest"), gates=Gates(soak_s=3600)))
    world.turns(3)
    begin(world, "k-2", "k-1", request=Request("digits", 2, ("1", "rest"), gates=Gates(soak_s=3600)))
    world.turns(3)
    former = world.rollouts.get("k-1")
    assert (former.state, former.reason) == (State.SUPERSEDED, "superseded by rollout k-2")
    assert {member.state for member in former.members.values()} == {MemberState.SUCCEEDED, MemberState.SUPERSEDED}
    assert world.desired() == {manifest_of(2)}


def test_what_was_given_and_not_proved_before_is_not_what_the_next_goes_back_to(world: World) -> None:
    world.until_end(begin(world, "k-1"))
    world.devices["edge-1"].mute = True
    begin(world, "k-2", request=Request("digits", 2, ("rest",)))
    for device in world.devices.values():
        device.mute = False
    begin(world, "k-3", "k-2", request=Request("digits", 3, ("rest",)))
    world.turns(1)
    world.rollouts.abort("k-3", world.now_ms)
    assert world.desired() == {manifest_of(1)}


def test_a_paused_one_is_replaced_too(world: World) -> None:
    begin(world, "k-1")
    world.rollouts.pause("k-1", world.now_ms)
    begin(world, "k-2", "k-1")
    assert world.rollouts.get("k-1").state is State.SUPERSEDED


def test_what_cannot_begin_replaces_nothing(world: World) -> None:
    begin(world, "k-1")
    with pytest.raises(NoTargets):
        begin(world, "k-2", "k-1", request=Request("digits", 2, ("rest",), {"site": "z"}))
    assert world.rollouts.get("k-1").state is State.RUNNING


def test_other_gates_hold_at_once_and_are_kept(world: World) -> None:
    rollout = world.rollouts.create(Request("digits", 1, ("1", "rest"), gates=Gates(soak_s=3600)), world.now_ms)
    world.turns(5)
    assert world.rollouts.get(rollout.id).wave == 0
    world.rollouts.ask(rollout.id, Amend(Gates(soak_s=1)), world.now_ms)
    assert world.rollouts.get(rollout.id).gates == Gates(soak_s=1)
    assert world.until_end(rollout).state is State.SUCCEEDED


def test_stricter_gates_judge_what_has_happened_already(world: World) -> None:
    world.devices["edge-1"].refuses.add(manifest_of(1))
    rollout = world.rollouts.create(Request("digits", 1, ("2", "rest"), gates=Gates(0.5, 0.5, 3600)), world.now_ms)
    world.turns(3)
    assert world.rollouts.get(rollout.id).state is State.RUNNING
    world.rollouts.ask(rollout.id, Amend(Gates()), world.now_ms)
    assert world.rollouts.get(rollout.id).state is State.FAILED


def test_the_gates_of_one_that_ended_stay(world: World) -> None:
    rollout = world.rollouts.create(REQUEST, world.now_ms)
    world.until_end(rollout)
    with pytest.raises(IllegalEvent, match="amend is not possible now"):
        world.rollouts.ask(rollout.id, Amend(Gates(soak_s=1)), world.now_ms)


def test_a_controller_that_lost_its_lease_begins_and_tells_nothing(world: World) -> None:
    rollout, lost = begin(world, "k-1"), lease(world)
    world.rollouts.resign(lost)
    world.rollouts.lead("two", world.now_ms)
    with pytest.raises(LeaseLost):
        world.rollouts.create(REQUEST, world.now_ms, Owned("k-2", (), lost))
    with pytest.raises(LeaseLost):
        world.rollouts.ask(rollout.id, Pause(), world.now_ms, lost)
    assert [(one.rollout.id, one.rollout.state) for one in world.rollouts.list()] == [("k-1", State.RUNNING)]
