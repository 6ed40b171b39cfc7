"""Keys are replaced while the whole loop runs, with the commands that a person would type."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from rich.console import Console

from simulators.demo import script
from simulators.demo.view import PlainView
from simulators.demo.world import CLOUD, MODEL, World

MakeWorld = Callable[[str], World]


def keys(world: World, *words: str) -> None:
    command = [sys.executable, "-m", "cloud.cli", "keys", *words, "--dir", CLOUD]
    done = subprocess.run(
        command, env=world.processes.environment(), cwd=world.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_running_fleet_follows_keys_that_are_replaced_under_it(make_world: MakeWorld) -> None:
    world, view = make_world("amqtt"), PlainView(Console(stderr=True))
    world.start_cloud()
    script.start_fleet(world, view)
    script.roll_out(world, view, 1)
    keys(world, "rotate", "deployment", MODEL, "timestamp", "snapshot", "targets")
    keys(world, "rotate", "root")
    script.roll_out(world, view, 2)
    world.until("no device raises an alarm", lambda: alarms(world) == [], within_s=60)
    assert [(device["version"], device["state"]) for device in world.devices_now()] == [(2, "committed")] * 3


def alarms(world: World) -> list[str]:
    return [alarm for device in world.get("/api/v1/devices") for alarm in device["alarms"]]
