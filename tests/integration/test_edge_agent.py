"""The agent as a process, on a real broker, with models that the cloud's own registry signs."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.registry.entities import ModelVersion
from edge.inference.golden import expected
from edge.update.rules import MOST_TAKEOVERS
from protos.kit import envelope
from protos.v1.manifest_pb2 import Manifest, TensorSpec, Variant
from protos.v1.report_pb2 import (
    OUTCOME_COMMITTED,
    OUTCOME_REFUSED,
    OUTCOME_ROLLED_BACK,
    UPDATE_STATE_COMMITTED,
    UPDATE_STATE_DOWNLOADING,
    UPDATE_STATE_REFUSED,
    UPDATE_STATE_ROLLED_BACK,
    UPDATE_STATE_TRIAL,
    SlotState,
)
from tests import hostile, tiny_models
from tests.integration.device_kit import Cloud, Device, world

GOOD = tiny_models.int8(tiny_models.weights())
HOSTILE = b"fine"
BETTER = tiny_models.int8(tiny_models.weights() * 0.9)
DAMAGED = tiny_models.int8(tiny_models.weights(shift=1))
TEN_YEARS_S = 315_360_000
ALL_BRIGHT = np.full((3, *tiny_models.FRAME_SHAPE), 255, np.uint8)

Scenario = Callable[[Cloud, Device, AsyncExitStack], Awaitable[None]]


def play(folder: Path, scenario: Scenario) -> None:
    async def acts() -> None:
        async with world(folder) as (cloud, device, broker):
            await scenario(cloud, device, broker)

    asyncio.run(acts())


def register(cloud: Cloud, file: bytes, judged_by: bytes | None = None, variant: str = "int8") -> ModelVersion:
    draft = tiny_models.manifest({variant: file}, judged_by={variant: judged_by} if judged_by else None)
    return cloud.register(draft, {variant: file})


async def rolled_out(cloud: Cloud, device: Device) -> ModelVersion:
    """A device that runs a good first version, generation 1."""
    version = register(cloud, GOOD)
    await cloud.publish(version)
    await cloud.deploy(version, 1)
    if device.process is None:
        await device.start()
    await cloud.slot(is_final(1))
    return version


def is_final(generation: int) -> Callable[[SlotState], bool]:
    final = {UPDATE_STATE_COMMITTED, UPDATE_STATE_REFUSED, UPDATE_STATE_ROLLED_BACK}
    return lambda slot: slot.generation == generation and slot.state in final


def status(device: Device) -> dict[str, Any]:
    command = [sys.executable, "-m", "edge.cli", "status", "--dir", str(device.folder), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return found


def test_a_deployed_model_is_fetched_proved_committed_and_answers_frames(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        version = await rolled_out(cloud, device)
        slot = await cloud.slot(is_final(1))
        receipt = cloud.receipt(slot)
        assert (slot.state, slot.running, slot.running_version) == (UPDATE_STATE_COMMITTED, version.manifest_digest, 1)
        assert (receipt.outcome, receipt.manifest) == (OUTCOME_COMMITTED, version.manifest_digest)
        assert cloud.presence["edge-1"] == b"online"
        replies = await device.feed(tiny_models.frames(), 1)
        assert (replies[-1].watermark, replies[-1].problem) == (4, "")

    play(tmp_path, scenario)


def test_a_small_change_comes_as_a_patch_to_the_model_in_use(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        first = await rolled_out(cloud, device)
        better = register(cloud, BETTER)
        await cloud.publish(better)
        await cloud.deploy(better, 2)
        slot = await cloud.slot(is_final(2))
        assert (slot.state, slot.running) == (UPDATE_STATE_COMMITTED, better.manifest_digest)
        patched = await device.logged("artifact patched")
        assert bytes.fromhex(patched["base"]) == first.parsed().variants[0].artifact.digest
        assert patched["bytes"] < patched["whole"]

    play(tmp_path, scenario)


def test_a_damaged_model_is_refused_and_the_former_runs_on(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        first = await rolled_out(cloud, device)
        damaged = register(cloud, DAMAGED, judged_by=GOOD)
        await cloud.publish(damaged)
        await cloud.deploy(damaged, 2)
        slot = await cloud.slot(is_final(2))
        assert (slot.state, slot.running) == (UPDATE_STATE_REFUSED, first.manifest_digest)
        assert slot.reason.startswith("golden vectors: 4 of 4 wrong")
        assert cloud.receipt(slot).outcome == OUTCOME_REFUSED

    play(tmp_path, scenario)


def test_a_model_that_fails_on_live_frames_in_its_trial_is_rolled_back(tmp_path: Path) -> None:
    # Its golden vectors stay below the largest float32, a brighter frame does not.
    overflowing = tiny_models.float32(2e38 * np.ones((4, 4)) + 1e38 * np.eye(4))

    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await device.start("--trial-s", "600")
        first = register(cloud, overflowing, variant="float32")
        await cloud.publish(first)
        await cloud.deploy(first, 1)
        await cloud.slot(lambda slot: slot.state == UPDATE_STATE_TRIAL)
        replies = await device.feed(ALL_BRIGHT, 1)
        assert "no result" in "".join(reply.problem for reply in replies)
        slot = await cloud.slot(is_final(1))
        assert (slot.state, slot.running) == (UPDATE_STATE_ROLLED_BACK, b"")
        assert "3 frames had no result" in slot.reason
        assert cloud.receipt(slot).outcome == OUTCOME_ROLLED_BACK

    play(tmp_path, scenario)


def hostile_draft() -> Manifest:
    """A model for the hostile interpreter, whose golden vectors do it no harm."""
    sizes = {"dtype": "float32"}
    variant = Variant(
        name="float32",
        artifact=tiny_models.artifact(HOSTILE),
        input=TensorSpec(shape=tiny_models.FRAME_SHAPE, **sizes),
        output=TensorSpec(shape=[tiny_models.CLASSES], **sizes),
    )
    draft = Manifest(model="tiny", version=1, preprocessing=tiny_models.preprocessing(), labels=list("abcd"))
    draft.variants.append(variant)
    vector = draft.golden.add(frame=bytes([0, 2, 0, 0]))
    vector.expected.append(expected("float32", np.array([0.1, 0.1, 0.9, 0.1], np.float32), 1e-4))
    return draft


def test_a_model_that_crashes_its_process_in_its_trial_is_rolled_back_and_the_agent_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(hostile.FOLDER))

    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await device.start("--trial-s", "600")
        version = cloud.register(hostile_draft(), {"float32": HOSTILE})
        await cloud.publish(version)
        await cloud.deploy(version, 1)
        await cloud.slot(lambda slot: slot.state == UPDATE_STATE_TRIAL)
        crashing = np.full((1, *tiny_models.FRAME_SHAPE), hostile.CRASH, np.uint8)
        feeding = asyncio.create_task(device.feed(crashing, 1))
        slot = await cloud.slot(is_final(1))
        assert (slot.state, slot.running) == (UPDATE_STATE_ROLLED_BACK, b"")
        assert "the model's process ended" in slot.reason or "1 frames had no result" in slot.reason
        assert device.process
        assert device.process.returncode is None
        feeding.cancel()

    play(tmp_path, scenario)


def forged(purpose: str, payload: bytes) -> Any:
    return envelope.sign(purpose, payload, Ed25519PrivateKey.generate())


SPOILT: list[tuple[int, dict[str, Any]]] = [
    (5, {"device": "edge-2"}),
    (5, {"slot": "second"}),
    (5, {"expires_ms": 1_800_000_000}),
    (5, {"sign": forged}),
    (1, {}),
    (0, {}),
]


def test_deployments_that_are_not_new_ones_for_this_device_change_nothing(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        first = await rolled_out(cloud, device)
        second, third = register(cloud, BETTER), register(cloud, BETTER)
        await cloud.publish(second)
        for generation, spoilt in SPOILT:
            await cloud.deploy(second, generation, **spoilt)
        await cloud.publish(third)
        await cloud.deploy(third, 2)
        slot = await cloud.slot(is_final(2))
        accepted = [line["generation"] for line in device.log if line["event"] == "update" and line["generation"]]
        assert slot.running == third.manifest_digest != first.manifest_digest
        assert set(accepted) == {1, 2}

    play(tmp_path, scenario)


def test_a_killed_agent_serves_without_a_broker_and_finishes_its_update_when_the_broker_is_back(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, broker: AsyncExitStack) -> None:
        first = await rolled_out(cloud, device)
        second = register(cloud, BETTER)
        await cloud.publish(second, chunks=False)
        await cloud.deploy(second, 2)
        await cloud.slot(lambda slot: slot.generation == 2 and slot.state == UPDATE_STATE_DOWNLOADING)
        await device.end(signal.SIGKILL)
        await broker.aclose()

        await device.start()
        replies = await device.feed(tiny_models.frames(), 1)
        assert replies[-1].watermark == 4
        told = await asyncio.to_thread(status, device)
        assert (told["running"]["manifest"], told["state"]) == (first.manifest_digest.hex(), "downloading")

        await broker.enter_async_context(cloud.broker())
        await cloud.publish(second)
        slot = await cloud.slot(is_final(2))
        assert (slot.state, slot.running) == (UPDATE_STATE_COMMITTED, second.manifest_digest)

    play(tmp_path, scenario)


def test_a_model_that_was_never_committed_is_left_when_the_agent_ends_again_and_again_in_its_trial(
    tmp_path: Path,
) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        first = await rolled_out(cloud, device)
        await device.end(signal.SIGKILL)
        second, trial = register(cloud, BETTER), ("--trial-s", "600")
        await cloud.publish(second)
        await cloud.deploy(second, 2)
        for _ in range(MOST_TAKEOVERS):
            cloud.reports.clear()
            await device.start(*trial)
            await cloud.slot(lambda slot: slot.generation == 2 and slot.state == UPDATE_STATE_TRIAL)
            await device.end(signal.SIGKILL)
        cloud.reports.clear()
        await device.start(*trial)
        slot = await cloud.slot(is_final(2))
        assert (slot.state, slot.running) == (UPDATE_STATE_ROLLED_BACK, first.manifest_digest)
        assert f"ended {MOST_TAKEOVERS} times" in slot.reason
        assert (await device.feed(tiny_models.frames(), 1))[-1].watermark == 4

    play(tmp_path, scenario)


def test_a_clock_at_1970_and_jumps_of_ten_years_stop_neither_updates_nor_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = tmp_path / "clock"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "clock"))
    monkeypatch.setenv("LITTORAL_TEST_CLOCK", str(clock))

    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        clock.write_text(str(-int(time.time())))
        version = await rolled_out(cloud, device)
        fed = 0
        for wrong_by_s in (0, TEN_YEARS_S, -TEN_YEARS_S, -int(time.time())):
            clock.write_text(str(wrong_by_s))
            replies = await device.feed(tiny_models.frames(), fed + 1)
            fed += 4
            assert (replies[-1].watermark, [reply.problem for reply in replies if reply.problem]) == (fed, [])
        clock.write_text(str(TEN_YEARS_S))
        told = await asyncio.to_thread(status, device)
        assert (told["running"]["manifest"], told["state"]) == (version.manifest_digest.hex(), "committed")
        assert told["outbox"]["rows"] == fed

    play(tmp_path, scenario)


def test_a_restarted_agent_reports_its_final_state_again_with_the_same_receipt(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await rolled_out(cloud, device)
        receipt = (await cloud.slot(is_final(1))).receipt
        await device.end(signal.SIGKILL)
        cloud.reports.clear()
        await device.start()
        assert (await cloud.slot(is_final(1))).receipt == receipt

    play(tmp_path, scenario)


def test_an_agent_ends_in_order_on_sigterm_and_its_status_can_be_read_afterwards(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        version = await rolled_out(cloud, device)
        await device.feed(tiny_models.frames(), 1)
        running = await asyncio.to_thread(status, device)
        assert await device.end(signal.SIGTERM) == 0
        await cloud.until(lambda: cloud.presence["edge-1"] == b"offline")
        ended = await asyncio.to_thread(status, device)
        assert (running["agent_running"], ended["agent_running"]) == (True, False)
        for told in (running, ended):
            assert (told["device"], told["state"], told["generation"]) == ("edge-1", "committed", 1)
            assert told["running"] == {"model": "tiny", "version": 1, "manifest": version.manifest_digest.hex()}
            assert told["outbox"]["rows"] == 4

    play(tmp_path, scenario)


def test_a_killed_agent_is_said_to_be_offline_by_the_broker(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await device.start()
        await cloud.until(lambda: cloud.presence.get("edge-1") == b"online")
        await device.end(signal.SIGKILL)
        await cloud.until(lambda: cloud.presence["edge-1"] == b"offline")

    play(tmp_path, scenario)


def test_a_second_agent_on_the_same_folder_is_told_which_one_has_it(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        del cloud
        await device.start()
        second = await asyncio.create_subprocess_exec(*device.command(), stderr=asyncio.subprocess.PIPE)
        _, told = await second.communicate()
        assert second.returncode == 1
        assert f"another agent (device edge-1, process {device.process.pid})" in told.decode()
        assert "--dir" in told.decode()

    play(tmp_path, scenario)


def test_no_model_is_run_where_none_is_desired(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        version = await rolled_out(cloud, device)
        await cloud.deploy(version, 2, manifest=b"", model="", version=0)
        slot = await cloud.slot(is_final(2))
        assert (slot.state, slot.running, slot.manifest) == (UPDATE_STATE_COMMITTED, b"", b"")

    play(tmp_path, scenario)


def test_a_large_manifest_and_many_chunks_reach_the_device(tmp_path: Path) -> None:
    # Noise after the model's bytes: it does not compress, and the interpreter does not look at it.
    file = GOOD + np.random.default_rng(0).bytes(400_000)

    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        draft = Manifest()
        draft.CopyFrom(tiny_models.manifest({"int8": GOOD}))
        draft.lineage.parameters["note"] = "n" * 80_000
        version = cloud.register(draft, {"int8": file})
        await cloud.publish(version)
        await cloud.deploy(version, 1)
        await device.start()
        slot = await cloud.slot(is_final(1))
        assert slot.state == UPDATE_STATE_COMMITTED, slot.reason
        assert slot.chunks_total == slot.chunks_present > 4

    play(tmp_path, scenario)
