"""An agent on a small disk of its own (tmpfs): full while it downloads, full while it spools, read-only."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from edge.uplink.outbox import Outbox
from edge.wiring import OUTBOX_FILES
from protos.kit.columns import decode
from protos.kit.kinds import Kind
from protos.v1.report_pb2 import UPDATE_STATE_COMMITTED
from protos.v1.uplink_pb2 import EventBatch
from tests import tiny_models
from tests.integration.device_kit import Cloud, Device, world
from tests.integration.test_edge_agent import register, rolled_out

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk"),
    pytest.mark.timeout(300),
]

DISK_MB = 16
BETTER = tiny_models.int8(tiny_models.weights() * 0.9)
LARGE = BETTER + np.random.default_rng(1).bytes(5 << 20)
"""Noise after the model's bytes: it does not compress, and the interpreter does not look at it."""
FRAMES = 4000


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """With a small disk at `edge`."""
    disk = tmp_path / "edge"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "littoral", disk], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", disk], check=True)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Cloud, Device]]:
    """A device on its disk that runs its first version."""
    async with world(folder) as (cloud, device, _):
        await rolled_out(cloud, device)
        yield cloud, device


def fill(disk: Path, but: int = 0) -> Path:
    """A file that takes all the room there is, or all `but` so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while True:
            room = os.statvfs(disk)
            try:
                os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - but)
            except OSError as error:
                # The agent has written meanwhile: there is less room than there was.
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return ballast


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def frames_in(folder: Path) -> list[int]:
    outbox = Outbox.open(folder / OUTBOX_FILES[Kind.RESULTS], 1 << 30)
    found = [frame for row in outbox.after(0, 100_000) for frame in decode(row.payload, row.count).frame.tolist()]
    outbox.close()
    return found


def events_in(folder: Path) -> list[str]:
    """Their kinds."""
    outbox = Outbox.open(folder / OUTBOX_FILES[Kind.EVENTS], 1 << 30)
    found = [EventBatch.FromString(row.payload).events[0].kind for row in outbox.after(0, 100_000)]
    outbox.close()
    return found


def test_a_disk_that_is_full_while_it_downloads_costs_time_and_is_told(folder: Path) -> None:
    async def scenario() -> None:
        async with running(folder) as (cloud, device):
            ballast = fill(device.folder, but=1 << 20)
            version = register(cloud, LARGE)
            await cloud.publish(version)
            await cloud.deploy(version, 2)
            told = await cloud.slot(lambda slot: slot.generation == 2 and "make room" in slot.reason)
            assert told.state != UPDATE_STATE_COMMITTED
            ballast.unlink()
            slot = await cloud.slot(lambda slot: (slot.generation, slot.state) == (2, UPDATE_STATE_COMMITTED))
            assert slot.running == version.manifest_digest

    asyncio.run(scenario())


def test_a_disk_that_takes_not_even_metadata_raises_an_alarm(folder: Path) -> None:
    async def scenario() -> None:
        async with running(folder) as (cloud, device):
            ballast = fill(device.folder)
            version = register(cloud, BETTER)
            await cloud.publish(version)
            await cloud.deploy(version, 2)
            await cloud.until(lambda: any("make room" in alarm for alarm in cloud.reports["edge-1"].alarms))
            ballast.unlink()
            await cloud.slot(lambda slot: (slot.generation, slot.state) == (2, UPDATE_STATE_COMMITTED))
            await cloud.until(lambda: not cloud.reports["edge-1"].alarms)

    asyncio.run(scenario())


def test_a_disk_that_is_full_while_results_wait_loses_none(folder: Path) -> None:
    async def scenario() -> None:
        async with running(folder) as (_, device):
            await device.feed(tiny_models.frames(), 1)
            ballast = fill(device.folder)
            frames = tiny_models.frames().reshape(4, 4)[np.arange(FRAMES) % 4]
            feeding = asyncio.create_task(device.feed(frames, 5))
            await device.logged("results not durable yet")
            assert not feeding.done()
            ballast.unlink()
            await feeding
            await device.end(signal.SIGTERM)
            assert frames_in(device.folder) == list(range(1, 5 + FRAMES))
            assert "inference.not_durable" in events_in(device.folder)

    asyncio.run(scenario())


def test_on_a_read_only_disk_it_says_so_and_goes_on_when_it_can_write_again(folder: Path) -> None:
    async def scenario() -> None:
        async with running(folder) as (_, device):
            await device.feed(tiny_models.frames(), 1)
            await device.end()
            remount(device.folder, "ro")
            refused = await asyncio.to_thread(
                subprocess.run, device.command(), capture_output=True, text=True, check=False, timeout=60
            )
            assert refused.returncode == 1
            assert "Read-only file system" in refused.stderr
            assert str(device.folder) in refused.stderr
            remount(device.folder, "rw")
            await device.start()
            await device.feed(tiny_models.frames(), 5)
            await device.end()
            assert frames_in(device.folder) == list(range(1, 9))

    asyncio.run(scenario())
