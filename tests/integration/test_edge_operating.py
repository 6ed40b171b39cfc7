"""What a person on a device can do, by the commands, beside a running agent and without one."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protos.v1.report_pb2 import OUTCOME_ROLLED_BACK, UPDATE_STATE_COMMITTED, UPDATE_STATE_ROLLED_BACK
from tests import tiny_models
from tests.integration.device_kit import Cloud, Device, world

Scenario = Callable[[Cloud, Device, AsyncExitStack], Awaitable[None]]
FILES = [tiny_models.int8(tiny_models.weights() * scale) for scale in (1.0, 0.9, 0.8)]


def play(folder: Path, scenario: Scenario) -> None:
    async def acts() -> None:
        async with world(folder) as (cloud, device, broker):
            await scenario(cloud, device, broker)

    asyncio.run(acts())


async def rolled_out(cloud: Cloud, device: Device, generations: int) -> list[bytes]:
    """A device that got as many versions, one after the other; their manifests' digests."""
    await device.start()
    digests = []
    for generation in range(1, generations + 1):
        file = FILES[generation - 1]
        version = cloud.register(tiny_models.manifest({"int8": file}), {"int8": file})
        await cloud.publish(version)
        await cloud.deploy(version, generation)
        await committed(cloud, generation)
        digests.append(version.manifest_digest)
    return digests


async def committed(cloud: Cloud, generation: int) -> None:
    await cloud.slot(lambda slot: (slot.generation, slot.state) == (generation, UPDATE_STATE_COMMITTED))


async def littoral_edge(device: Device, *arguments: str, code: int = 0) -> Any:
    """What a command prints as JSON; of one that fails its complaint."""
    command = [sys.executable, "-m", "edge.cli", *arguments, "--dir", str(device.folder), "--json"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if not code else done.stderr


def test_models_tells_what_lies_in_each_place(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        first, second = await rolled_out(cloud, device, 2)
        found = {place["role"]: place for place in await littoral_edge(device, "models")}
        assert {role: place["manifest"] for role, place in found.items()} == {
            "committed": second.hex(),
            "former": first.hex(),
        }
        place = found["committed"]
        assert (place["model"], place["version"], place["variant"], place["bytes"]) == (
            "tiny",
            2,
            "int8",
            len(FILES[1]),
        )
        assert place["placed_ms"] > place["created_ms"] > 0
        await device.end()
        next(device.folder.glob("models/default/*/model.tflite")).write_bytes(b"rot")
        assert sorted(place["damaged"] for place in await littoral_edge(device, "models")) == [False, True]

    play(tmp_path, scenario)


def test_infer_answers_with_and_without_the_agent_and_stores_nothing(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        array, picture = tmp_path / "frames.npy", tmp_path / "frame.pgm"
        np.save(array, tiny_models.frames())
        picture.write_bytes(b"P5 2 2 255\n" + tiny_models.frames()[3].tobytes())
        await rolled_out(cloud, device, 1)
        with_agent = await littoral_edge(device, "infer", str(array), str(picture))
        assert [answer["label"] for answer in with_agent["answers"]] == ["a", "b", "c", "d", "d"]
        assert await device.end(signal.SIGTERM) == 0
        without = await littoral_edge(device, "infer", str(array))
        assert [answer["class"] for answer in without["answers"]] == [0, 1, 2, 3]
        assert (await littoral_edge(device, "status"))["outbox"]["rows"] == 0

    play(tmp_path, scenario)


def test_infer_says_what_the_model_takes_when_a_file_is_none_of_its_frames(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        wrong = tmp_path / "wrong.raw"
        wrong.write_bytes(b"123")
        assert "no committed model" in await littoral_edge(device, "infer", str(wrong), code=1)
        await rolled_out(cloud, device, 1)
        told = await littoral_edge(device, "infer", str(wrong), code=1)
        assert "3 bytes of pixels" in told
        assert "2 x 2 values of uint8" in told

    play(tmp_path, scenario)


def test_rollback_through_the_running_agent_is_told_to_the_cloud_whose_next_deployment_takes_over(
    tmp_path: Path,
) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        first, second = await rolled_out(cloud, device, 2)
        told = await littoral_edge(device, "rollback")
        assert (told["running"]["manifest"], told["agent_running"]) == (first.hex(), True)
        slot = await cloud.slot(lambda slot: slot.state == UPDATE_STATE_ROLLED_BACK)
        assert (slot.generation, slot.running, slot.manifest) == (2, first, second)
        assert cloud.receipt(slot).outcome == OUTCOME_ROLLED_BACK
        assert "nothing has changed" in await littoral_edge(device, "rollback", code=1)
        await cloud.deploy(cloud.registry.get("tiny", 2), 3)
        await committed(cloud, 3)

    play(tmp_path, scenario)


def test_rollback_without_an_agent_holds_when_it_starts(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        first, _second = await rolled_out(cloud, device, 2)
        await device.end()
        told = await littoral_edge(device, "rollback")
        assert (told["running"]["manifest"], told["state"], told["agent_running"]) == (
            first.hex(),
            "rolled_back",
            False,
        )
        await device.start()
        slot = await cloud.slot(lambda slot: slot.state == UPDATE_STATE_ROLLED_BACK)
        assert slot.running == first
        assert cloud.receipt(slot).outcome == OUTCOME_ROLLED_BACK

    play(tmp_path, scenario)


def test_only_the_agents_own_user_may_give_orders(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await rolled_out(cloud, device, 1)
        mode = (device.folder / "orders.sock").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600

    play(tmp_path, scenario)


def test_an_agent_needs_no_folder_for_temporary_files_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    # As on a device whose whole disk is read-only but for the data folder.
    (hook / "sitecustomize.py").write_text("import tempfile; tempfile._candidate_tempdir_list = list\n")
    monkeypatch.setenv("PYTHONPATH", str(hook))

    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await rolled_out(cloud, device, 1)

    play(tmp_path, scenario)
