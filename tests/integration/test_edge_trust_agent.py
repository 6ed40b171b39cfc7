"""The agent as a process, on brokers that forge, freeze, or serve a fleet whose keys are replaced."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from cloud.foundation.broker import Kind
from cloud.identity.changes import Changes
from cloud.identity.entities import Lifetimes
from cloud.identity.service import Identity
from protos import topics
from protos.v1.report_pb2 import UPDATE_STATE_COMMITTED, UPDATE_STATE_IDLE, UPDATE_STATE_REFUSED
from tests import tiny_models
from tests.integration.device_kit import Cloud, Device, now_ms, world
from tests.integration.test_edge_agent import BETTER, GOOD, is_final, register, rolled_out, status
from tests.sites import both

Scenario = Callable[[Cloud, Device], Awaitable[None]]
SHORT = Lifetimes(timestamp=timedelta(seconds=3))


def play(folder: Path, scenario: Scenario, kind: Kind = "amqtt") -> None:
    async def acts() -> None:
        async with world(folder, kind) as (cloud, device, _):
            await scenario(cloud, device)

    asyncio.run(acts())


@both
def test_a_rogue_broker_that_forges_everything_achieves_no_installation(kind: Kind, tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device) -> None:
        rogue = Cloud(tmp_path / "rogue", cloud.address.port)  # all that a cloud has, but for the fleet's keys
        rogue.link = cloud.link
        genuine, forged = register(cloud, GOOD), register(rogue, BETTER)
        await rogue.publish(forged)
        await rogue.deploy(forged, 1)
        await device.start("--metadata-s", "0.2")
        await cloud.until(lambda: bool(cloud.reports["edge-1"].alarms) if "edge-1" in cloud.reports else False)
        assert "metadata is not believed" in cloud.reports["edge-1"].alarms[0]

        # The fleet's own metadata, and all the rest forged: deployments by the rogue, then genuine ones of others.
        await cloud.publish_metadata()
        await cloud.until(lambda: not cloud.reports["edge-1"].alarms)
        await rogue.deploy(forged, 2)
        await device.logged("deployment not believed")
        await cloud.deploy(genuine, 3, device="edge-2")
        await cloud.deploy(forged, 4)  # even the director: the metadata lists another manifest for this version
        slot = await cloud.slot(is_final(4))
        assert (slot.state, slot.running) == (UPDATE_STATE_REFUSED, b"")
        assert slot.reason == "the fleet's metadata lists another manifest for tiny version 1"
        accepted = {line["generation"] for line in device.log if line["event"] == "update" and line["generation"]}
        assert accepted == {4}

        # It was not for lack of trying: what is genuine is installed from the same broker.
        await cloud.publish(genuine)
        await cloud.deploy(genuine, 5)
        assert (await cloud.slot(is_final(5))).state == UPDATE_STATE_COMMITTED

    play(tmp_path, scenario, kind)


def test_a_frozen_device_serves_on_raises_an_alarm_and_installs_nothing_until_it_thaws(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device) -> None:
        await device.start("--metadata-s", "0.5")
        first = await rolled_out(cloud, device)
        cloud.trust._lifetimes = SHORT
        second = register(cloud, BETTER)
        await cloud.publish(second)  # the last that the broker lets through
        await cloud.until(lambda: any("expired" in alarm for alarm in cloud.reports["edge-1"].alarms))
        replies = await device.feed(tiny_models.frames(), 1)
        assert (replies[-1].watermark, replies[-1].problem) == (4, "")
        told = await asyncio.to_thread(status, device)
        assert (told["running"]["manifest"], "expired" in told["alarms"][0]) == (first.manifest_digest.hex(), True)
        await cloud.deploy(second, 2)
        await device.logged("deployment waits for metadata")
        assert cloud.reports["edge-1"].slots[0].generation == 1

        cloud.trust._lifetimes = Lifetimes()
        cloud.trust.renew(now_ms())
        await cloud.publish_metadata()
        slot = await cloud.slot(is_final(2))
        assert (slot.state, slot.running) == (UPDATE_STATE_COMMITTED, second.manifest_digest)
        await cloud.until(lambda: not cloud.reports["edge-1"].alarms)

    play(tmp_path, scenario)


def test_a_director_key_that_was_replaced_deploys_nothing_and_the_new_one_does(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device) -> None:
        await rolled_out(cloud, device)
        shutil.copytree(cloud.folder / "keys", tmp_path / "thief" / "keys")
        stolen = Identity(tmp_path / "thief")
        Changes(cloud.trust).rotate(["deployment"], now_ms())
        second, third = register(cloud, BETTER), register(cloud, GOOD)
        await cloud.publish(second)
        await cloud.publish(third)
        await cloud.deploy(second, 2, sign=stolen.sign)
        await device.logged("deployment not believed")
        await cloud.deploy(third, 3)
        assert (await cloud.slot(is_final(3))).running == third.manifest_digest
        accepted = {line["generation"] for line in device.log if line["event"] == "update" and line["generation"]}
        assert accepted == {1, 3}

    play(tmp_path, scenario)


def test_a_rollback_over_a_restart_is_noticed_by_the_agent(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device) -> None:
        old = {file.name: file.data for file in cloud.trust.files()}
        await rolled_out(cloud, device)
        await device.end()
        for name, data in old.items():
            await cloud._say(topics.metadata(name), data)
        await device.start()
        await cloud.until(lambda: any("not believed" in alarm for alarm in cloud.reports["edge-1"].alarms))
        assert (await asyncio.to_thread(status, device))["running"]["version"] == 1

    play(tmp_path, scenario)


def test_an_agent_with_the_trust_file_of_an_older_cloud_runs_and_says_what_it_lacks(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device) -> None:
        older = tmp_path / "trust.json"
        older.write_text('{"manifest": {"id": "ab"}, "deployment": {"id": "ab"}}')
        await device.start("--trust", str(older))
        slot = await cloud.slot(lambda slot: slot.state == UPDATE_STATE_IDLE)
        await cloud.until(lambda: any("has no root" in alarm for alarm in cloud.reports["edge-1"].alarms))
        assert slot.running == b""

    play(tmp_path, scenario)
