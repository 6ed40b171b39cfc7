"""SIGKILL of the ingest at random points: of each kind, acknowledged is a part of stored, stored without duplicates."""

from __future__ import annotations

import asyncio
import random
import signal
from multiprocessing.context import ForkServerProcess

import grpc

from cloud.foundation.database import Database
from protos.kit.kinds import Kind
from tests.integration.uplink_kit import Device, device_of, stored
from tests.integration.uplink_processes import kill, start_server

ROUNDS = 10
BATCHES = 60
ROWS = 7


async def stream_until_killed(database_url: str, chance: random.Random) -> dict[Kind, int]:
    """One life of the server: a device sends from its watermarks; the server is killed under it. The last Acks."""
    server, address = await start_server(database_url)
    try:
        async with device_of(address) as device:
            device.told |= await device.hello_with_lines()
            try:
                await send_and_kill(device, server, chance)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
                server.join()
                assert server.exitcode == -signal.SIGKILL
            return device.told
    finally:
        kill(server)


async def send_and_kill(device: Device, server: ForkServerProcess, chance: random.Random) -> None:
    """Send batches of kinds as chance has it, reading acknowledgements in between, and kill at a point drawn before."""
    kill_at = chance.randrange(BATCHES)
    following = {kind: watermark + 1 for kind, watermark in device.told.items()}
    for number in range(BATCHES):
        kind = chance.choice(list(Kind))
        await device.send(following[kind], ROWS, kind=kind)
        following[kind] += ROWS
        if number % 3 == chance.randrange(3):
            await device.until_acknowledged(following[kind] - 1 - 5 * ROWS, kind)
        if number == kill_at:
            server.kill()
    for kind in Kind:
        await device.until_acknowledged(following[kind] - 1, kind)


def test_acknowledged_is_stored_and_stored_once_whenever_the_server_is_killed(database_url: str) -> None:
    chance = random.Random(1)
    database = Database(database_url)
    database.create()
    acknowledged = dict.fromkeys(Kind, 0)
    for _ in range(ROUNDS):
        told = asyncio.run(stream_until_killed(database_url, chance))
        for kind in Kind:
            acknowledged[kind] = max(acknowledged[kind], told[kind])
            rows = stored(database, kind=kind)
            assert rows == list(range(1, len(rows) + 1))
            assert len(rows) >= acknowledged[kind]
    assert all(acknowledged.values())
    database.close()
