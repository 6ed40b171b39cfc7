"""What was sent on a connection that its device has given up arrives late, at one replica or another, in any order."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from simulators.wire import Wire
from tests.integration.uplink_kit import Cloud, Device, device_of, running_cloud, stored

ROWS = 10
LAST = 600
CONNECTIONS = 8


@dataclass
class Late:
    """A connection that is held up with batches on it."""

    wire: Wire
    device: Device


def port_of(cloud: Cloud) -> int:
    return int(cloud.address.rpartition(":")[2])


@pytest.mark.parametrize("seed", range(3))
def test_late_doubled_and_overtaken_batches_are_stored_once_and_what_was_acknowledged_is_stored(
    database_url: str, seed: int
) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            replicas = [await stack.enter_async_context(running_cloud(database_url)) for _ in range(2)]
            given_up: list[Late] = []
            for _ in range(CONNECTIONS):
                wire = Wire.to_port(port_of(chance.choice(replicas)))
                port = await stack.enter_async_context(wire.serving())
                device = await stack.enter_async_context(device_of(f"127.0.0.1:{port}"))
                first = (await device.hello()).watermark + 1
                wire.fall_silent()  # from here on what it sends is on the way
                await send(device, first, min(LAST, first + ROWS * chance.randint(1, 20)))
                given_up.append(Late(wire, device))
                if chance.random() < 0.7:
                    chance.choice(given_up).wire.speak()
            chance.shuffle(given_up)
            for late in given_up:
                late.wire.speak()
            told = max([0, *[await until_it_ends(late.device) for late in given_up]])
            assert stored(replicas[0].database)[:told] == list(range(1, told + 1))
            last = await stack.enter_async_context(device_of(replicas[0].address))
            await send(last, (await last.hello()).watermark + 1, LAST)
            await last.until_acknowledged(LAST)
            assert stored(replicas[0].database) == list(range(1, LAST + 1))

    asyncio.run(main())


async def send(device: Device, first: int, last: int) -> None:
    """Batches of ten, the last as long as need be."""
    for begin in range(first, last + 1, ROWS):
        await device.send(begin, min(ROWS, last + 1 - begin))


async def until_it_ends(device: Device) -> int:
    """Say that this was all; the last acknowledgement, if there was any."""
    if not device.call.done():
        await device.call.done_writing()
    await device.end()
    return device.acknowledged
