"""The same loop by hand: each command on its own, and each role of the cloud in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from simulators.demo.world import CLOUD, MODEL, World

ROLES = ("publisher", "api", "ingest", "controller")
AGENTS = ("edge-1", "edge-2")
FRAMES = 300

MakeWorld = Callable[[str], World]


def littoral(world: World, *command: str) -> Any:
    """What a `littoral` command with --json prints."""
    arguments = [sys.executable, "-m", "cloud.cli", *command, "--json"]
    done = subprocess.run(
        arguments, env=world.processes.environment(), cwd=world.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return json.loads(done.stdout)


def test_each_command_and_each_role_on_its_own_makes_the_same_loop(make_world: MakeWorld) -> None:
    world = make_world("amqtt")
    api = ("--api", world.api_url)
    for role in ROLES:
        world.processes.start(role, world.serve_command("--role", role))
    world.cloud_ready()
    for device in AGENTS:
        world.start_agent(device)
    world.until("both agents are online", lambda: online(littoral(world, "devices", "list", *api)) == 2, within_s=60)

    models = littoral(world, "models", "list", "--dir", CLOUD)
    assert [model["version"] for model in models] == [1, 2, 3]
    rollout = littoral(world, "rollout", "create", "--model", MODEL, "--version", "2", "--selector", "fleet=demo", *api)
    assert [wave["size"] for wave in rollout["waves"]] == [1, 1]
    world.until("the rollout has ended", lambda: world.rollout_ended(rollout["id"]), within_s=120)
    shown = littoral(world, "rollout", "show", rollout["id"], *api)
    assert (shown["state"], [wave["succeeded"] for wave in shown["waves"]]) == ("succeeded", [1, 1])

    agents = [part for device in AGENTS for part in ("--agent", f"{device}={device}/frames.sock")]
    feed = ["--count", str(FRAMES), "--rate", "200", "--data", world.plan.data, "--api", world.api_url]
    world.processes.run("sensors", ["-m", "simulators.cli", "sensors", *agents, *feed])
    world.until("all results are stored", lambda: world.get("/api/v1/summary")["stored"] == 2 * FRAMES, within_s=60)

    summary = world.get("/api/v1/summary")
    assert (summary["sent"], summary["lost"], summary["duplicated"]) == (2 * FRAMES, 0, 0)
    assert summary["results_per_version"] == {"2": 2 * FRAMES}
    devices = littoral(world, "devices", "list", *api)
    assert [(device["id"], device["version"]) for device in devices] == [("edge-1", 2), ("edge-2", 2)]


def online(devices: list[dict[str, Any]]) -> int:
    return sum(device["online"] for device in devices)
