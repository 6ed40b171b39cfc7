"""A cable is pulled: nobody is told, and both sides find it out by themselves, each within its keep-alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from cloud.uplink.server import KEEP_ALIVE as CLOUDS
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import KEEP_ALIVE as DEVICES
from edge.uplink.rpc import State, Uplink
from protos.kit.keepalive import KeepAlive
from simulators.wire import Wire
from tests.integration.uplink_kit import Cloud, batch, running_cloud
from tests.waiting import eventually

SOON = KeepAlive(time_s=0.5, timeout_s=0.5)
NEVER = KeepAlive(time_s=3600, timeout_s=3600)


def streams() -> float | None:
    return REGISTRY.get_sample_value("littoral_uplink_streams")


@asynccontextmanager
async def scene(
    url: str, outbox: Outbox, clouds: KeepAlive, devices: KeepAlive
) -> AsyncIterator[tuple[Cloud, Wire, Uplink]]:
    """A device that streams over a wire."""
    async with running_cloud(url, keep_alive=clouds) as cloud:
        wire = Wire.to_port(int(cloud.address.rpartition(":")[2]))
        async with wire.serving() as port:
            uplink = Uplink(f"127.0.0.1:{port}", "edge-1", outbox, lambda: 0.05, devices)
            running = asyncio.create_task(uplink.run())
            await eventually(lambda: uplink.state is State.STREAMING)
            yield cloud, wire, uplink
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox.open(tmp_path / "outbox.db", 1 << 30)


def append(outbox: Outbox, first: int) -> None:
    outbox.append([NewBatch(10, batch(first, 10), "camera", first + 9)])


def test_the_device_finds_it_out_and_goes_on_once_the_cable_is_back(database_url: str, outbox: Outbox) -> None:
    async def main() -> list[int]:
        async with scene(database_url, outbox, NEVER, SOON) as (cloud, wire, uplink):
            append(outbox, 1)
            await eventually(lambda: outbox.depth().rows == 0)
            wire.fall_silent()
            append(outbox, 11)
            await eventually(lambda: uplink.state is State.WAITING)
            wire.speak()
            append(outbox, 21)
            await eventually(lambda: outbox.depth().rows == 0)
            return cloud.stored(epoch=outbox.epoch)

    assert asyncio.run(main()) == list(range(1, 31))


def test_the_cloud_finds_it_out_and_keeps_no_stream_of_a_device_that_is_gone(database_url: str, outbox: Outbox) -> None:
    async def main() -> list[int]:
        before = streams()
        async with scene(database_url, outbox, SOON, NEVER) as (cloud, wire, _):
            append(outbox, 1)
            await eventually(lambda: outbox.depth().rows == 0)
            assert streams() != before
            wire.fall_silent()
            await eventually(lambda: streams() == before)
            return cloud.stored(epoch=outbox.epoch)

    assert asyncio.run(main()) == list(range(1, 11))


def test_a_connection_that_is_merely_quiet_lasts(database_url: str, outbox: Outbox) -> None:
    async def main() -> int:
        async with scene(database_url, outbox, SOON, SOON) as (_, wire, uplink):
            await asyncio.sleep(4 * SOON.time_s + SOON.timeout_s)
            assert uplink.state is State.STREAMING
            return wire.connections

    assert asyncio.run(main()) == 1


def test_in_the_field_both_know_within_a_minute() -> None:
    assert sum((DEVICES.time_s, DEVICES.timeout_s)) < sum((CLOUDS.time_s, CLOUDS.timeout_s)) < 60
