"""SIGKILL of the ingest at random points: acknowledged is a part of stored, stored is without duplicates."""

from __future__ import annotations

import asyncio
import random
import signal
from multiprocessing.context import ForkServerProcess

import grpc

from cloud.foundation.database import Database
from tests.integration.uplink_kit import Device, device_of, stored
from tests.integration.uplink_processes import kill, start_server

ROUNDS = 10
BATCHES = 60
ROWS = 7


async def stream_until_killed(database_url: str, chance: random.Random) -> int:
    """One life of the server: a device sends from its watermark; the server is killed under it. The last Ack."""
    server, address = await start_server(database_url)
    try:
        async with device_of(address) as device:
            device.acknowledged = (await device.hello()).watermark
            try:
                await send_and_kill(device, server, chance)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
                server.join()
                assert server.exitcode == -signal.SIGKILL
            return device.acknowledged
    finally:
        kill(server)


async def send_and_kill(device: Device, server: ForkServerProcess, chance: random.Random) -> None:
    """Send batches, reading acknowledgements in between, and kill at a point drawn beforehand."""
    kill_at = chance.randrange(BATCHES)
    first = device.acknowledged + 1
    for number in range(BATCHES):
        await device.send(first, ROWS)
        first += ROWS
        if number % 3 == chance.randrange(3):
            await device.until_acknowledged(first - 1 - 5 * ROWS)
        if number == kill_at:
            server.kill()
    await device.until_acknowledged(first - 1)


def test_acknowledged_is_stored_and_stored_once_whenever_the_server_is_killed(database_url: str) -> None:
    chance = random.Random(1)
    database = Database(database_url)
    database.create()
    acknowledged = 0
    for _ in range(ROUNDS):
        acknowledged = max(acknowledged, asyncio.run(stream_until_killed(database_url, chance)))
        rows = stored(database)
        assert rows == list(range(1, len(rows) + 1))
        assert len(rows) >= acknowledged
    assert acknowledged > 0
    database.close()
