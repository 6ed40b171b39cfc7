"""The whole loop in separate processes, over a real broker and real gRPC, with and without kills."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import Console

from simulators.demo import script
from simulators.demo.findings import Findings, Versions, collect
from simulators.demo.view import PlainView, View
from simulators.demo.world import World

MakeWorld = Callable[[str], World]

VERSIONS = Versions(first=1, good=2, bad=3)


@pytest.fixture
def view() -> View:
    return PlainView(Console(stderr=True))


def begin(world: World, view: View) -> None:
    """Cloud, agents, sensors, and version 1 everywhere."""
    world.watch = lambda: view.draw(world.devices_now())
    world.start_cloud()
    script.start_fleet(world, view)
    script.roll_out(world, view, VERSIONS.first)


def end(world: World, view: View) -> Findings:
    """Version 3, refused; everything settled."""
    script.roll_out(world, view, VERSIONS.bad, expected="failed")
    script.settle(world, VERSIONS.good)
    world.stop_sensors()
    return collect(world.get)


def assert_nobody_but_the_canary_saw_the_bad_version(findings: Findings, world: World) -> None:
    """Each rollout gives a member a new generation; taking a bad version back gives one more."""
    canary = findings.canary(VERSIONS.bad)
    generations = {device["id"]: device["generation"] for device in findings.devices}
    assert generations == {device: 4 if device == canary else 2 for device in world.devices}


def test_the_fleet_ends_on_version_2_and_nothing_is_lost_or_doubled(
    make_world: MakeWorld, broker: str, data: str, view: View
) -> None:
    world = make_world(broker)
    begin(world, view)
    script.roll_out(world, view, VERSIONS.good)
    findings = end(world, view)
    assert findings.complaints(world.devices, VERSIONS) == []
    assert_nobody_but_the_canary_saw_the_bad_version(findings, world)
    if data != "digits":
        assert findings.models[1]["accuracy_int8"] >= 0.985


def test_it_still_converges_when_an_agent_and_the_cloud_are_killed_in_the_middle(
    make_world: MakeWorld, broker: str, view: View
) -> None:
    world = make_world(broker)
    begin(world, view)
    rollout = world.roll_out(VERSIONS.good)
    world.restart_agent("edge-1")
    world.until("the rollout is under way", lambda: any_member_given_work(world, rollout), within_s=60)
    world.restart_cloud()
    world.cloud_ready()
    world.restart_agent("edge-2")
    world.until("the rollout has ended", lambda: world.rollout_ended(rollout), within_s=120)
    findings = end(world, view)
    assert findings.complaints(world.devices, VERSIONS) == []
    assert_nobody_but_the_canary_saw_the_bad_version(findings, world)


def any_member_given_work(world: World, rollout: str) -> bool:
    return any(member["generation"] for member in world.rollout(rollout)["members"])
