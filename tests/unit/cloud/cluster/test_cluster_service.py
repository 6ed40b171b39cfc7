"""ModelRollouts and DeviceGroups against real rollouts on a real database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from cluster_kit import spec, thing
from sqlalchemy import event

from cloud.cluster.entities import NoSuchGroup, Object
from cloud.cluster.service import DeviceGroups, ModelRollouts
from cloud.fleet.entities import Node, NodeState
from cloud.rollouts.entities import Lease, LeaseLost, State
from tests.unit.cloud.rollouts.small_fleet import World, manifest_of


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(f"sqlite:///{tmp_path / 'littoral.db'}")
    yield world
    world.database.close()


class Applied:
    """An object that is applied again and again, and the controller that sees it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.object = thing()
        lease = world.rollouts.lead("one", world.now_ms)
        assert lease
        self.lease: Lease = lease
        self.groups: dict[str, Mapping[str, str]] = {}
        self.controller = ModelRollouts(world.rollouts, self.labels)

    def labels(self, namespace: str, name: str) -> Mapping[str, str]:
        if name not in self.groups:
            raise NoSuchGroup(f"there is no DeviceGroup {name!r} in namespace {namespace!r}")
        return self.groups[name]

    def apply(self, **given: object) -> Object:
        """Apply a spec, and let the controller look at it."""
        new = spec(**given)
        grown = self.object.generation + (new != self.object.spec)
        self.object = replace(self.object, spec=new, generation=grown)
        return self.look()

    def look(self) -> Object:
        status = self.controller.reconcile(self.object, self.lease, self.world.now_ms)
        self.object = replace(self.object, status=status)
        return self.object

    def settle(self) -> Object:
        """Until the newest rollout has ended."""
        self.world.until_end(self.world.rollouts.get(self.object.status["rollout"]))
        return self.look()


@pytest.fixture
def applied(world: World) -> Applied:
    return Applied(world)


def rollouts(world: World) -> list[tuple[int, State]]:
    """Versions and states, the oldest first."""
    return [(one.rollout.version, one.rollout.state) for one in reversed(world.rollouts.list())]


def test_applied_twice_it_is_one_rollout_that_comes_to_its_end(applied: Applied, world: World) -> None:
    assert applied.apply().status["phase"] == "Progressing"
    applied.apply()
    found = applied.settle()
    assert (found.status["phase"], found.status["done"]) == ("Succeeded", "5/5")
    applied.apply()
    assert rollouts(world) == [(1, State.SUCCEEDED)]


def test_a_status_that_was_lost_is_found_again(applied: Applied, world: World) -> None:
    before = applied.apply().status
    applied.object = replace(applied.object, status={})
    assert applied.look().status == before
    assert len(world.rollouts.list()) == 1


def test_a_higher_version_supersedes_the_one_under_way(applied: Applied, world: World) -> None:
    applied.apply(waves=["1", "rest"], gates=spec()["gates"] | {"soakSeconds": 3600})
    world.turns(3)
    found = applied.apply(version=2)
    assert (found.status["version"], found.status["phase"]) == (2, "Progressing")
    assert applied.settle().status["phase"] == "Succeeded"
    world.turns(3)
    assert rollouts(world) == [(1, State.SUPERSEDED), (2, State.SUCCEEDED)]
    assert world.running() == {manifest_of(2)}


def test_a_paused_rollout_that_is_superseded_ends(applied: Applied, world: World) -> None:
    applied.apply()
    applied.apply(paused=True)
    assert rollouts(world) == [(1, State.PAUSED)]
    applied.apply(version=2)
    applied.settle()
    assert rollouts(world) == [(1, State.SUPERSEDED), (2, State.SUCCEEDED)]


def test_back_to_the_former_version_is_a_rollout_of_it(applied: Applied, world: World) -> None:
    for version in (1, 2, 1):
        applied.apply(version=version)
        applied.settle()
    assert rollouts(world) == [(1, State.SUCCEEDED), (2, State.SUCCEEDED), (1, State.SUCCEEDED)]
    assert world.running() == {manifest_of(1)}


def test_a_failed_rollout_stays_failed_until_a_further_attempt(applied: Applied, world: World) -> None:
    world.devices["edge-1"].refuses.add(manifest_of(1))
    applied.apply()
    found = applied.settle()
    assert found.status["phase"] == "Failed"
    assert "golden vector 0 differs" in found.status["message"]
    world.devices["edge-1"].refuses.clear()
    applied.apply()
    assert len(world.rollouts.list()) == 1
    applied.apply(attempt=2)
    assert applied.settle().status["phase"] == "Succeeded"


def test_what_is_not_registered_yet_begins_once_it_is_reachable(applied: Applied, world: World) -> None:
    found = applied.apply(version=99)
    assert (found.status["phase"], found.status["message"]) == ("Pending", "no digits 99")
    assert rollouts(world) == []
    applied.apply(selector={"site": "z"})
    assert applied.object.status["conditions"][0]["reason"] == "NoDevices"
    world.devices["edge-1"].site = "z"
    world.turns(1)
    assert applied.look().status["phase"] == "Progressing"


def test_a_group_selects_the_devices_as_it_is_when_the_rollout_begins(applied: Applied, world: World) -> None:
    found = applied.apply(deviceGroup="north")
    assert found.status["conditions"][0]["reason"] == "NoSuchGroup"
    applied.groups["north"] = {"site": "a"}
    assert applied.look().status["devices"]["total"] == 2
    assert world.rollouts.list()[0].rollout.selector == {"site": "a"}


def test_a_persons_rollout_is_not_touched(applied: Applied, world: World) -> None:
    by_hand = world.create(2)
    applied.apply(paused=True)
    applied.controller.leave(applied.object, applied.lease, world.now_ms)
    assert world.rollouts.get(by_hand.id).state is State.RUNNING
    assert "rollout" not in applied.look().status


def test_what_a_person_did_to_its_rollout_is_told_and_not_undone_once_it_ended(applied: Applied, world: World) -> None:
    rollout = applied.apply().status["rollout"]
    world.rollouts.pause(rollout, world.now_ms)
    assert applied.look().status["phase"] == "Progressing"
    world.rollouts.abort(rollout, world.now_ms)
    found = applied.look()
    assert (found.status["phase"], found.status["message"]) == ("Aborted", "aborted on request")
    assert len(world.rollouts.list()) == 1


@pytest.mark.parametrize(("policy", "state"), [("Abort", State.ABORTED), ("Keep", State.RUNNING)])
def test_deleting_follows_the_policy(applied: Applied, world: World, policy: str, state: State) -> None:
    applied.apply(deletionPolicy=policy)
    applied.controller.leave(applied.object, applied.lease, world.now_ms)
    assert rollouts(world) == [(1, state)]


def test_deleting_what_has_ended_takes_nothing_back(applied: Applied, world: World) -> None:
    applied.apply()
    applied.settle()
    applied.controller.leave(applied.object, applied.lease, world.now_ms)
    world.turns(2)
    assert world.running() == {manifest_of(1)}


def test_a_controller_that_does_not_lead_any_more_does_nothing(applied: Applied, world: World) -> None:
    world.rollouts.resign(applied.lease)
    world.rollouts.lead("two", world.now_ms)
    with pytest.raises(LeaseLost):
        applied.apply()
    assert rollouts(world) == []


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killing(world: World, at: int) -> Iterator[None]:
    """End the process at its `at`th statement or commit."""
    numbers = count(1)

    def statement(*_: object) -> None:
        if next(numbers) == at:
            raise Killed

    listened = [(world.database._engine, "before_cursor_execute"), (world.database._engine, "commit")]
    for target, name in listened:
        event.listen(target, name, statement)
    try:
        yield
    finally:
        for target, name in listened:
            event.remove(target, name, statement)


def killed_everywhere(applied: Applied) -> int:
    """Look at the object by one new controller after the other, each killed a statement later, until one is through."""
    for at in count(1):
        applied.controller = ModelRollouts(applied.world.new_process(), applied.labels)
        try:
            with killing(applied.world, at):
                applied.look()
        except Killed:
            continue
        return at
    raise AssertionError


@pytest.mark.parametrize("edit", [{"version": 2}, {"paused": True}, {"gates": spec()["gates"] | {"soakSeconds": 5}}])
def test_killed_at_any_statement_an_edit_is_done_once(applied: Applied, world: World, edit: dict[str, object]) -> None:
    slow = {"gates": spec()["gates"] | {"soakSeconds": 3600}}
    applied.apply(**slow)
    world.turns(3)
    applied.object = replace(applied.object, spec=spec(**slow | edit), generation=2)
    assert killed_everywhere(applied) > 5
    (rollout, *former) = world.rollouts.list()
    assert [one.rollout.state for one in former] == ([State.SUPERSEDED] if "version" in edit else [])
    assert rollout.rollout.version == edit.get("version", 1)
    assert rollout.rollout.state is (State.PAUSED if "paused" in edit else State.RUNNING)
    assert applied.object.status["observedGeneration"] == 2
    assert killed_everywhere(applied) < 5  # only reading: there is nothing more to do
    assert len(world.rollouts.list()) == 1 + len(former)


def group(**labels: str) -> Object:
    return Object("fleet", "north", "uid", 2, {"selector": {"matchLabels": labels}}, {})


def test_a_group_counts_its_devices_and_their_nodes(world: World) -> None:
    nodes = [Node("edge-2", cordoned=True), Node("edge-4", state=NodeState.NOT_READY), Node("elsewhere")]
    world.fleet.take_nodes(nodes, world.now_ms)
    found = DeviceGroups(world.fleet).reconcile(group(site="a"), world.now_ms)
    counted = {key: found[key] for key in ("devices", "online", "cordoned", "notReady", "observedGeneration")}
    assert counted == {"devices": 2, "online": 2, "cordoned": 1, "notReady": 1, "observedGeneration": 2}
    assert found["conditions"][0]["status"] == "True"


def test_a_group_without_devices_is_ready_and_says_so(world: World) -> None:
    found = DeviceGroups(world.fleet).reconcile(group(site="z"), world.now_ms)
    assert (found["devices"], found["conditions"][0]["status"], found["conditions"][0]["reason"]) == (
        0,
        "True",
        "NoDevices",
    )
