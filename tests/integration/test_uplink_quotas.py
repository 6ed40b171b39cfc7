"""A device over its quota is told to wait and is not read meanwhile; one beside it notices nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloud.uplink.quotas import Quota, Quotas
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import Uplink
from tests.integration.uplink_kit import Cloud, Device, batch, device_of, running_cloud, stored
from tests.waiting import eventually

ROWS_S = 400
ROWS = 100


@asynccontextmanager
async def limited(url: str, quota: Quota) -> AsyncIterator[Cloud]:
    async with running_cloud(url) as cloud:
        cloud.service.quotas = Quotas(quota)
        yield cloud


async def flood(device: Device) -> None:
    """Send and mind nothing."""
    for number in range(10_000):
        await device.send(1 + number * ROWS, ROWS)


def test_a_device_that_floods_is_held_to_its_quota_and_slows_no_other(database_url: str) -> None:
    async def main() -> None:
        async with (
            limited(database_url, Quota(rows_s=ROWS_S)) as cloud,
            device_of(cloud.address) as flooding,
            device_of(cloud.address) as normal,
        ):
            await flooding.hello("flood")
            await normal.hello("edge-1")
            sending = asyncio.create_task(flood(flooding))
            began = asyncio.get_running_loop().time()
            while not flooding.delays:
                await flooding.next()
            for number in range(50):
                await normal.send(1 + 10 * number, 10)
                await normal.until_acknowledged(10 + 10 * number)
            passed_s = asyncio.get_running_loop().time() - began
            assert not normal.delays
            assert stored(cloud.database, "edge-1") == list(range(1, 501))
            most = ROWS_S * (passed_s + 2.0) + 2 * ROWS
            assert 0 < len(stored(cloud.database, "flood")) <= most
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    asyncio.run(main())


def test_a_device_that_minds_the_delay_loses_nothing(database_url: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with limited(database_url, Quota(rows_s=ROWS_S, bytes_s=100_000)) as cloud:
            outbox = Outbox.open(tmp_path / "outbox.db", 1 << 30)
            outbox.append([NewBatch(ROWS, batch(1 + n * ROWS, ROWS), "camera", (n + 1) * ROWS) for n in range(15)])
            running = asyncio.create_task(Uplink(cloud.address, "edge-1", outbox, chance=lambda: 0.05).run())
            await eventually(lambda: outbox.depth().rows == 0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert stored(cloud.database, "edge-1", outbox.epoch) == list(range(1, 1501))

    asyncio.run(main())


def test_a_quota_counts_over_all_streams_of_a_device(database_url: str) -> None:
    async def main() -> None:
        async with limited(database_url, Quota(rows_s=ROWS_S)) as cloud:
            for epoch in (1, 2):
                async with device_of(cloud.address) as device:
                    await device.hello(epoch=epoch)
                    for number in range(8):
                        await device.send(1 + number * ROWS, ROWS)
                    await device.until_acknowledged(8 * ROWS)
                    if epoch == 2:
                        assert device.delays

    asyncio.run(main())
