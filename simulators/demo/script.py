"""The story of the demo, step by step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from simulators.demo.findings import Findings, Versions, collect
from simulators.demo.view import View
from simulators.demo.world import World

AFTERWARDS_S = 3.0  # the fleet is seen serving on after the bad version


class Unexpected(Exception):
    """A rollout did not end as it should. The message says how it ended and why."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """How long the two versions are trained."""

    first: int
    second: int


EPOCHS = Epochs(first=4, second=12)


def play(world: World, view: View, epochs: Epochs = EPOCHS) -> tuple[Findings, list[str]]:
    """Run the whole loop; returns what it came to and what of it is not as it must be. Leaves cloud and agents running.

    Raises ProcessEnded, TimedOut, ApiFailed or Unexpected when it cannot go on.
    """
    world.watch = lambda: view.draw(world.devices_now())
    view.step(f"1 to 3. Training version 1 on {world.plan.data}, quantising, judging, signing and registering it")
    world.start_cloud()  # it comes up while TensorFlow does
    train(world, view, epochs.first)
    start_fleet(world, view)
    first = world.newest_version()
    view.step("5, 6. Rolling it out: one canary, then the rest, while sensors feed held-out digits")
    roll_out(world, view, first)
    view.step("7. Training version 2 with more epochs, while the fleet serves on")
    train(world, view, epochs.second)
    good = world.newest_version()
    view.step("   Rolling version 2 out the same way")
    roll_out(world, view, good)
    view.step("   Publishing version 3, damaged on purpose, and rolling it out: the canary should refuse it")
    world.publish_bad()
    bad = world.newest_version()
    roll_out(world, view, bad, expected="failed")
    settle(world, good)
    _look_on(world, AFTERWARDS_S)
    view.step("8. Ending the sensors: every result must have arrived once")
    world.stop_sensors()
    findings = collect(world.get)
    return findings, findings.complaints(world.devices, Versions(first, good, bad))


def train(world: World, view: View, epochs: int) -> None:
    """Train the next version, its progress bar on the screen."""
    with view.aside():
        world.train(epochs, visible=True)


def start_fleet(world: World, view: View) -> None:
    """Start agents and sensors, and wait until all have reported."""
    view.step(f"4. Starting broker, cloud and {len(world.devices)} agents")
    world.cloud_ready()
    for device in world.devices:
        world.start_agent(device)
    world.start_sensors()
    world.until("every agent has reported", world.devices_online, within_s=60)
    view.note(f"API {world.api_url}, ingest 127.0.0.1:{world.ingest_port}, broker {world.broker_url}")


def roll_out(world: World, view: View, version: int, expected: str = "succeeded") -> None:
    """Roll `version` out and wait for the rollout's end. Raises Unexpected if it is not `expected`."""
    rollout = world.roll_out(version)
    world.until(f"the rollout of version {version} has ended", lambda: world.rollout_ended(rollout), within_s=120)
    ended = world.rollout(rollout)
    told = f"rollout of version {version}: {ended['state']}" + (f": {ended['reason']}" if ended["reason"] else "")
    if ended["state"] != expected:
        raise Unexpected(f"{told}; it should have {expected}")
    view.note(told)


def go_on(world: World, view: View) -> None:
    """Serve until interrupted, the fleet in view."""
    world.start_sensors()
    view.step("Going on until Ctrl-C")
    for address in (f"API {world.api_url}/docs", f"ingest 127.0.0.1:{world.ingest_port}", f"broker {world.broker_url}"):
        view.note(address)
    view.note(f"data {world.folder}")
    world.until("it is interrupted", lambda: False, within_s=math.inf)


def settle(world: World, version: int) -> None:
    """Wait until every device runs `version` and has nothing more to do."""
    world.until(
        f"every device runs version {version}",
        lambda: all(d["version"] == version and d["state"] == "committed" for d in world.get("/api/v1/devices")),
        within_s=60,
    )


def _look_on(world: World, seconds: float) -> None:
    end = time.monotonic() + seconds
    world.until("some seconds have passed", lambda: time.monotonic() >= end, within_s=seconds + 1)
