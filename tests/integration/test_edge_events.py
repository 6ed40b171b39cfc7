"""The agent as a process tells an ingest what happens on its device, and how it is: each once, whatever is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from protos.v1 import uplink_pb2
from protos.v1.report_pb2 import UPDATE_STATE_TRIAL
from protos.v1.uplink_pb2 import EventBatch, Telemetry, TelemetryBatch
from tests import tiny_models
from tests.integration.device_kit import Cloud, Device, world
from tests.integration.simulated_ingest import Faults, SimulatedIngest, listening
from tests.integration.test_edge_agent import ALL_BRIGHT, BETTER, DAMAGED, GOOD, is_final, register, status
from tests.integration.test_edge_operating import littoral_edge
from tests.waiting import eventually

KILLS = 8

Scenario = Callable[[Cloud, Device, SimulatedIngest, tuple[str, ...]], Awaitable[None]]


def play(folder: Path, ingest: SimulatedIngest, scenario: Scenario) -> None:
    """The scenario gets the flags with which the agent finds the ingest."""

    async def acts() -> None:
        async with world(folder) as (cloud, device, _), listening(ingest) as port:
            flags = ("--uplink", f"127.0.0.1:{port}", "--telemetry-s", "0.2")
            await scenario(cloud, device, ingest, flags)

    asyncio.run(acts())


def events(ingest: SimulatedIngest) -> list[uplink_pb2.Event]:
    return [EventBatch.FromString(payload).events[0] for payload in ingest.events]


def kinds(ingest: SimulatedIngest) -> list[str]:
    return [event.kind for event in events(ingest)]


def intervals(ingest: SimulatedIngest) -> list[Telemetry]:
    return [TelemetryBatch.FromString(payload).intervals[0] for payload in ingest.telemetry]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def deployed(cloud: Cloud, file: bytes, generation: int, judged_by: bytes | None = None) -> None:
    version = register(cloud, file, judged_by)
    await cloud.publish(version)
    await cloud.deploy(version, generation)
    await cloud.slot(is_final(generation))


def test_the_start_each_end_of_an_update_and_a_kill_are_told_in_order(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, ingest: SimulatedIngest, flags: tuple[str, ...]) -> None:
        await device.start(*flags)
        await deployed(cloud, GOOD, 1)
        await deployed(cloud, DAMAGED, 2, judged_by=GOOD)
        await deployed(cloud, BETTER, 3)
        await littoral_edge(device, "rollback")
        await eventually(lambda: "update.recalled" in kinds(ingest))
        await device.end(signal.SIGKILL)
        await device.start(*flags)
        await eventually(lambda: kinds(ingest).count("agent.started") == 2)
        assert [kind for kind in kinds(ingest) if not kind.startswith("alarm.")] == [
            "agent.started",
            "update.committed",
            "update.refused",
            "update.committed",
            "update.recalled",
            "agent.started",
        ]
        first, committed, refused, _, _, again = (one for one in events(ingest) if not one.kind.startswith("alarm."))
        assert "the first time" in first.text
        assert (committed.slot, committed.model, committed.version) == ("default", "tiny", 1)
        assert (refused.severity, refused.version) == (uplink_pb2.SEVERITY_WARNING, 2)
        assert refused.text.startswith("golden vectors: 4 of 4 wrong")
        assert "killed" in again.text

    play(tmp_path, SimulatedIngest(), scenario)


def test_an_update_that_is_rolled_back_is_told_once_whenever_the_agent_is_killed(tmp_path: Path) -> None:
    overflowing = tiny_models.float32(2e38 * np.ones((4, 4)) + 1e38 * np.eye(4))
    chance = random.Random(3)

    async def scenario(cloud: Cloud, device: Device, ingest: SimulatedIngest, flags: tuple[str, ...]) -> None:
        trial = (*flags, "--trial-s", "600")
        await device.start(*trial)
        version = register(cloud, overflowing, variant="float32")
        await cloud.publish(version)
        await cloud.deploy(version, 1)
        await cloud.slot(lambda slot: slot.state == UPDATE_STATE_TRIAL)
        await device.feed(ALL_BRIGHT, 1)
        for _ in range(KILLS):
            await asyncio.sleep(chance.random() * 0.3)
            await device.end(signal.SIGKILL)
            await device.start(*trial)
        await cloud.slot(is_final(1))
        await eventually(lambda: "update.rolled_back" in kinds(ingest))
        for _ in range(2):  # what is told again has its time to come
            starts = kinds(ingest).count("agent.started")
            await device.end(signal.SIGTERM)
            await device.start(*trial)
            await eventually(lambda starts=starts: kinds(ingest).count("agent.started") > starts)  # type: ignore[misc]
        assert kinds(ingest).count("update.rolled_back") == 1
        assert kinds(ingest).count("update.committed") == 0

    play(tmp_path, SimulatedIngest(faults=Faults(cut=0.1, lose_ack=0.3)), scenario)


def test_the_end_of_a_models_process_that_nobody_ordered_is_told_with_its_model(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, ingest: SimulatedIngest, flags: tuple[str, ...]) -> None:
        await device.start(*flags)
        await deployed(cloud, GOOD, 1)
        assert device.process
        for child in children(device.process.pid):
            os.kill(child, signal.SIGKILL)
        await eventually(lambda: "inference.process_ended" in kinds(ingest))
        told = next(event for event in events(ingest) if event.kind == "inference.process_ended")
        assert (told.severity, told.slot, told.model, told.version) == (
            uplink_pb2.SEVERITY_ERROR,
            "default",
            "tiny",
            1,
        )

    play(tmp_path, SimulatedIngest(), scenario)


def test_a_source_and_a_sink_that_cannot_be_used_are_told_and_not_again_and_again(tmp_path: Path) -> None:
    no_folder = tmp_path / "a file"
    no_folder.touch()

    async def scenario(cloud: Cloud, device: Device, ingest: SimulatedIngest, flags: tuple[str, ...]) -> None:
        ends = ("--watch", str(no_folder / "in"), "--results-file", str(no_folder / "answers.jsonl"))
        await device.start(*flags, *ends)
        await deployed(cloud, GOOD, 1)
        for first in range(1, 20, 4):
            await device.feed(tiny_models.frames(), first)
        await eventually(lambda: {"inference.source_unusable", "inference.sink_loses"} <= set(kinds(ingest)))
        assert kinds(ingest).count("inference.source_unusable") == kinds(ingest).count("inference.sink_loses") == 1

    play(tmp_path, SimulatedIngest(), scenario)


def test_every_interval_of_telemetry_comes_once_and_together_they_tell_of_every_frame(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, ingest: SimulatedIngest, flags: tuple[str, ...]) -> None:
        await device.start(*flags)
        await deployed(cloud, GOOD, 1)
        for first in range(1, 40, 4):
            await device.feed(tiny_models.frames(), first)
        await eventually(lambda: sum(interval.inferences for interval in intervals(ingest)) == 40)
        measured = [interval.measured_ms for interval in intervals(ingest)]
        assert measured == sorted(set(measured))
        told = await asyncio.to_thread(status, device)
        assert told["telemetry"]["dropped"] == 0

    play(tmp_path, SimulatedIngest(faults=Faults(cut=0.1, lose_ack=0.3)), scenario)


def test_events_that_happened_without_a_cloud_come_when_it_is_there(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, ingest: SimulatedIngest, flags: tuple[str, ...]) -> None:
        await device.start()
        await deployed(cloud, GOOD, 1)
        await device.end(signal.SIGTERM)
        told = await asyncio.to_thread(status, device)
        assert told["events"]["rows"] >= 2
        await device.start(*flags)
        await eventually(lambda: kinds(ingest).count("agent.started") == 2)
        told_of = [kind for kind in kinds(ingest) if not kind.startswith("alarm.")]
        assert told_of == ["agent.started", "update.committed", "agent.started"]
        assert events(ingest)[-1].text.endswith("before, it was stopped in order")

    play(tmp_path, SimulatedIngest(), scenario)


def test_an_agent_that_has_no_place_for_events_starts_and_tells_of_it(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, ingest: SimulatedIngest, flags: tuple[str, ...]) -> None:
        for name in ("events.sqlite", "telemetry.sqlite"):
            (device.folder / name).mkdir(parents=True)
        await device.start(*flags)
        await deployed(cloud, GOOD, 1)
        await eventually(lambda: "update.committed" in kinds(ingest))
        await eventually(lambda: len(intervals(ingest)) > 1)
        told = [event for event in events(ingest) if event.kind == "uplink.outbox_begun_anew"]
        assert len(told) == 2
        assert all("in memory" in event.text for event in told)

    play(tmp_path, SimulatedIngest(), scenario)
