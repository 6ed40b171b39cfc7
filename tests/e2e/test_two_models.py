"""Two models on one device, each rolled out to its slot by the commands that a person types."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from simulators.demo.world import CLOUD, MODEL, SETTLE_S, World

DEVICE = "edge-1"
OTHER = "gates"
FRAMES = 300

MakeWorld = Callable[[str], World]


def command(world: World, *arguments: str) -> str:
    """What a `littoral` command prints."""
    line = [sys.executable, "-m", "cloud.cli", *arguments]
    done = subprocess.run(
        line, env=world.processes.environment(), cwd=world.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def sensors(world: World, *more: str) -> list[str]:
    agent = ("--agent", f"{DEVICE}={DEVICE}/frames.sock")
    feed = ("--rate", "200", "--data", world.plan.data, "--api", world.api_url)
    return ["-m", "simulators.cli", "sensors", *agent, *feed, *more]


def rolled_out(world: World, model: str, version: int, *more: str) -> Any:
    api = ("--api", world.api_url)
    created = command(world, "rollout", "create", "--model", model, "--version", str(version), *more, *api, "--json")
    rollout = json.loads(created)["id"]
    world.until(f"the rollout of {model} {version} has ended", lambda: world.rollout_ended(rollout), within_s=120)
    return world.rollout(rollout)


def test_a_second_model_comes_to_its_slot_while_the_first_serves_and_nothing_is_lost(make_world: MakeWorld) -> None:
    world = make_world("auto")
    train = ["-m", "cloud.cli", "train", "--dir", CLOUD, "--model", OTHER, "--epochs", "3", "--plain"]
    world.processes.run("train", train)
    world.start_cloud()
    world.cloud_ready()
    world.start_agent(DEVICE, "--slots", "default=3,doors=1")
    world.until("the agent has reported", lambda: len(world.get("/api/v1/devices")) == 1, within_s=60)

    assert rolled_out(world, MODEL, 1)["state"] == "succeeded"
    world.processes.start("sensors", sensors(world), expendable=True)
    for version in (2, 3):
        assert rolled_out(world, MODEL, version)["state"] == ("succeeded" if version == 2 else "failed")
        doors = rolled_out(world, OTHER, 1, "--slot", "doors")
        assert (doors["state"], doors["slot"]) == ("succeeded", "doors")
    world.processes.run("doors", sensors(world, "--slot", "doors", "--count", str(FRAMES)))
    world.processes.stop("sensors", within_s=SETTLE_S)
    world.until(
        "all of the first model's results are stored",
        lambda: not world.get(f"/api/v1/summary?model={MODEL}")["lost"],
        within_s=60,
    )
    world.until(
        "all of the second model's results are stored",
        lambda: world.get(f"/api/v1/summary?model={OTHER}")["results_per_version"] == {"1": FRAMES},
        within_s=60,
    )

    summary = world.get(f"/api/v1/summary?model={MODEL}")
    assert (summary["lost"], summary["duplicated"], summary["skipped"]) == (0, 0, 0)
    assert sum(summary["results_per_version"].values()) == summary["sent"]

    (device,) = world.get("/api/v1/devices")
    slots = {slot["slot"]: slot for slot in device["slots"]}
    assert {name: (slot["model"], slot["version"]) for name, slot in slots.items()} == {
        "default": (MODEL, 2),
        "doors": (OTHER, 1),
    }
    assert {row["variant"] for row in slots["doors"]["variants"]} >= {"int8", "int8-plain", "float32"}
    shown = command(world, "devices", "show", DEVICE, "--api", world.api_url)
    assert f"Variants on {device['hardware']}" in shown
    for slot in slots.values():
        assert f"{slot['slot']} " in shown
        assert slot["variant"] in shown
