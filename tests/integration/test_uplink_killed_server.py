"""SIGKILL of the ingest at random points: acknowledged is a part of stored, stored is without duplicates."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys

import grpc

from cloud.foundation.database import Database
from tests.integration.uplink_kit import Device, device_of, stored

ROUNDS = 10
BATCHES = 60
ROWS = 7


def start_server(database_url: str) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and where it listens."""
    command = [sys.executable, "-m", "tests.integration.uplink_kit", database_url]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, server.stdout.readline().strip()


async def stream_until_killed(database_url: str, chance: random.Random) -> int:
    """One life of the server: a device sends from its watermark; the server is killed under it. The last Ack."""
    server, address = await asyncio.to_thread(start_server, database_url)
    try:
        async with device_of(address) as device:
            device.acknowledged = (await device.hello()).watermark
            try:
                await send_and_kill(device, server, chance)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
                assert server.poll() is not None or server.wait() == -signal.SIGKILL
            return device.acknowledged
    finally:
        server.kill()
        server.wait()


async def send_and_kill(device: Device, server: subprocess.Popen[str], chance: random.Random) -> None:
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
    acknowledged = 0
    for _ in range(ROUNDS):
        acknowledged = max(acknowledged, asyncio.run(stream_until_killed(database_url, chance)))
        rows = stored(database)
        assert rows == list(range(1, len(rows) + 1))
        assert len(rows) >= acknowledged
    assert acknowledged > 0
    database.close()
