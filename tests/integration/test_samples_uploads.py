"""Samples from device to cloud over real gRPC: whatever is cut or killed, each arrives whole, once, after results."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from cloud.samples.entities import Policy, Wanted
from tests.integration.samples_devices import Cutter, Device, device_in, digests, ingest_of, sense, serve
from tests.integration.simulated_ingest import listening
from tests.integration.uplink_processes import free_port, kill, start
from tests.samples_cloud import FRAME_BYTES, SamplesCloud, samples_cloud
from tests.samples_kit import policies
from tests.waiting import eventually

UNSURE = Policy("unsure", 1 << 30, "digits", below=0.5)
KILLS = 12


class World:
    """A cloud on one database, and the folder that devices live in."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def cloud(self) -> SamplesCloud:
        return samples_cloud(self.url, self.folder / "cloud")

    @asynccontextmanager
    async def device(self, cloud: SamplesCloud, address: str, name: str = "edge-1") -> AsyncIterator[Device]:
        async with device_in(self.folder / name, address, cloud.version.manifest_digest, name) as device:
            yield device


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> World:
    return World(database_url, tmp_path)


def frames(cloud: SamplesCloud, device: str = "edge-1") -> list[int]:
    return sorted(one.offer.frame for one in cloud.samples.listed(Wanted(device=device, limit=10_000)))


def check_files(cloud: SamplesCloud, last: int) -> None:
    """Every file is whole, and there is one for each frame."""
    for path in cloud.files:
        assert path.stat().st_size == FRAME_BYTES
    assert {path.name for path in cloud.files} == digests(1, last)


async def following(device: Device, names: list[str]) -> None:
    await eventually(lambda: [policy.name for policy in device.sampler.policies] == names)


def test_unsure_frames_reach_the_cloud_and_are_tied_to_their_results(world: World) -> None:
    async def main() -> None:
        cloud = world.cloud()
        cloud.samples.set_policy(UNSURE)
        async with ingest_of(cloud) as address, world.device(cloud, address) as device:
            await following(device, ["unsure"])
            device.infer([0.1, 0.9, 0.2], 1)
            await eventually(lambda: frames(cloud) == [1, 3])
            await eventually(lambda: device.waiting == 0)
            found = cloud.samples.listed(Wanted())
            assert {one.offer.frame: one.result.seq for one in found if one.result} == {1: 1, 3: 3}
            assert {one.result.epoch for one in found if one.result} == {device.outbox.epoch}
        assert len(cloud.files) == 2
        cloud.database.close()

    asyncio.run(main())


def test_a_policy_that_changes_while_devices_stream_reaches_them(world: World) -> None:
    async def main() -> None:
        cloud = world.cloud()
        async with ingest_of(cloud) as address, world.device(cloud, address) as device:
            device.infer([0.1], 1)
            cloud.samples.set_policy(UNSURE)
            await following(device, ["unsure"])
            device.infer([0.1], 2)
            cloud.samples.set_policy(Policy("sharp", 1 << 30, "digits", below=0.05))
            cloud.samples.remove_policy("unsure")
            await following(device, ["sharp"])
            device.infer([0.1, 0.01], 3)
            cloud.samples.remove_policy("sharp")
            await following(device, [])
            device.infer([0.0], 5)
            await eventually(lambda: frames(cloud) == [2, 4])
        cloud.database.close()

    asyncio.run(main())


def test_a_cut_at_any_message_costs_neither_a_sample_nor_more_than_what_was_on_its_way(world: World) -> None:
    async def play(number: int, cut_at: int) -> tuple[int, int]:
        """Two unsure frames over a stream that is cut once; messages and bytes of pieces that passed."""
        cloud = world.cloud()
        cloud.samples.set_policy(UNSURE)
        name, first = f"edge-{number}", 1 + 2 * number
        async with world.device(cloud, "127.0.0.1:9", name) as device:
            await device.sampler.follow(policies())
            device.infer([0.1, 0.2], first)
            await device.sampler.written()
        cutter = Cutter("", cut_at)
        async with (
            ingest_of(cloud) as address,
            listening(cutter) as port,
            world.device(cloud, f"127.0.0.1:{port}", name) as device,
        ):
            cutter.target = address
            await eventually(lambda: device.waiting == 0 and device.outbox.depth().rows == 0)
        assert frames(cloud, name) == [first, first + 1]
        cloud.database.close()
        return len(cutter.log), cutter.pieces

    messages, size = asyncio.run(play(0, 0))
    assert size == 2 * FRAME_BYTES
    for cut_at in range(1, messages + 1):
        _, again = asyncio.run(play(cut_at, cut_at))
        assert 2 * FRAME_BYTES <= again <= 2 * FRAME_BYTES + 2 * 16 * 1024
    cloud = world.cloud()
    check_files(cloud, 2 * (messages + 1))
    cloud.database.close()


def test_results_go_before_samples(world: World) -> None:
    async def main() -> None:
        cloud = world.cloud()
        cloud.samples.set_policy(UNSURE)
        async with world.device(cloud, "127.0.0.1:9") as device:
            await device.sampler.follow(policies())
            for number in range(1, 201):
                device.infer([0.1 if number < 20 else 0.9], number)
                await device.sampler.written()
        cutter = Cutter("")
        async with (
            ingest_of(cloud) as address,
            listening(cutter) as port,
        ):
            cutter.target = address
            async with world.device(cloud, f"127.0.0.1:{port}") as device:
                await eventually(lambda: device.waiting == 0)
        last_result = max(place for place, kind in enumerate(cutter.log) if kind == "batch")
        assert cutter.log.index("sample_offer") > last_result
        cloud.database.close()

    asyncio.run(main())


def test_equal_frames_of_two_devices_are_sent_and_stored_once(world: World) -> None:
    async def main() -> None:
        cloud = world.cloud()
        cloud.samples.set_policy(UNSURE)
        cutter = Cutter("")
        async with ingest_of(cloud) as address, listening(cutter) as port:
            cutter.target = address
            for name in ("edge-1", "edge-2"):
                async with world.device(cloud, f"127.0.0.1:{port}", name) as device:
                    await following(device, ["unsure"])
                    device.infer([0.1, 0.2], 1)
                    await eventually(lambda: frames(cloud, name) == [1, 2])  # noqa: B023 - waited for here
        assert cutter.pieces == 2 * FRAME_BYTES
        check_files(cloud, 2)
        cloud.database.close()

    asyncio.run(main())


def test_equal_frames_that_come_from_two_devices_at_once_are_stored_once(world: World) -> None:
    async def main() -> None:
        cloud = world.cloud()
        cloud.samples.set_policy(UNSURE)
        async with (
            ingest_of(cloud) as address,
            world.device(cloud, address, "edge-1") as one,
            world.device(cloud, address, "edge-2") as other,
        ):
            for device in (one, other):
                await following(device, ["unsure"])
            for device in (one, other):
                device.infer([0.1] * 8, 1)
            await eventually(lambda: frames(cloud, "edge-1") == frames(cloud, "edge-2") == list(range(1, 9)))
        check_files(cloud, 8)
        cloud.database.close()

    asyncio.run(main())


def test_samples_that_can_never_be_taken_are_refused_and_leave_the_device(world: World) -> None:
    async def main() -> None:
        cloud = world.cloud()
        cloud.samples.set_policy(UNSURE)
        async with ingest_of(cloud) as address, world.device(cloud, address) as device:
            await following(device, ["unsure"])
            device.manifest = b"?" * 32
            device.infer([0.1], 1)
            device.manifest = cloud.version.manifest_digest
            device.infer([0.1], 2)
            await eventually(lambda: frames(cloud) == [2])
            await eventually(lambda: device.waiting == 0)
        cloud.database.close()

    asyncio.run(main())


@pytest.mark.parametrize("who", ["server", "device"])
@pytest.mark.timeout(300)
def test_a_kill_at_any_time_loses_no_sample_that_was_kept_and_doubles_none(world: World, who: str) -> None:
    chance = random.Random(who)
    cloud = world.cloud()
    cloud.samples.set_policy(UNSURE)
    port, stop = free_port(), world.folder / "stop"
    manifest = cloud.version.manifest_digest

    def begin(one: str) -> ForkServerProcess:
        if one == "server":
            return start(serve, world.url, world.folder / "cloud", port)
        return start(sense, f"127.0.0.1:{port}", "edge-1", world.folder / "edge-1", manifest, stop)

    processes = {one: begin(one) for one in ("server", "device")}
    try:
        for _ in range(KILLS):
            before = len(frames(cloud))
            asyncio.run(eventually(lambda: len(frames(cloud)) > before))  # noqa: B023 - waited for here
            asyncio.run(asyncio.sleep(chance.random() / 5))
            kill(processes[who])
            processes[who] = begin(who)
        stop.touch()
        processes["device"].join()
        assert processes["device"].exitcode == 0
    finally:
        for process in processes.values():
            kill(process)
    found = frames(cloud)
    assert len(found) == len(set(found)) > KILLS
    assert {path.name for path in cloud.files} == set().union(*(digests(number, number) for number in found))
    assert all(path.stat().st_size == FRAME_BYTES for path in cloud.files)
    if who == "server":
        assert found == list(range(found[0], found[-1] + 1)), "a device that was not killed has kept every one"
    cloud.database.close()


def test_a_budget_holds_over_a_restart_of_the_device(world: World) -> None:
    async def main() -> None:
        cloud = world.cloud()
        cloud.samples.set_policy(Policy("few", 3 * FRAME_BYTES + 1, below=0.5))
        async with ingest_of(cloud) as address:
            for life in range(3):
                async with world.device(cloud, address) as device:
                    await following(device, ["few"])
                    device.infer([0.1, 0.1], 1 + 2 * life)
                    await device.sampler.written()
                    await eventually(lambda: device.waiting == 0)
        assert len(frames(cloud)) == 3
        cloud.database.close()

    asyncio.run(main())
