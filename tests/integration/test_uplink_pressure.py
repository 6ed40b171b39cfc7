"""A database that does not answer, devices that send what they can: memory stays flat, and nothing is lost."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, closing
from pathlib import Path

import numpy as np
from sqlalchemy import text

from cloud.foundation.database import Database
from cloud.uplink.merge import MAX_WAITING_BYTES, SHARES
from protos.kit.columns import Results, encode
from simulators.postgresql import Cluster
from tests.integration.uplink_kit import MANIFEST, Device, device_of, running_cloud, stored
from tests.integration.uplink_processes import kill, start_server

DEVICES = 8
BATCHES = 192
ROWS = 4096
QUIET_S = 1.0
STREAM_BYTES = 3 * MAX_WAITING_BYTES // SHARES
"""A stream's share, what gRPC holds of it, and what Python needs around it."""


def large(first: int) -> bytes:
    count = np.arange(ROWS)
    return encode(
        Results(
            model="digits",
            version=1,
            manifest=MANIFEST,
            source="camera",
            frame=count.astype(np.uint64) + np.uint64(first),
            captured_us=count,
            label=(count % 10).astype(np.uint16),
            confidence=np.ones(ROWS, np.float32),
            latency_us=count.astype(np.uint32),
        )
    )


def memory_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


class Flood:
    """Devices that send without minding any window."""

    def __init__(self) -> None:
        self.sent = [0] * DEVICES
        self.over = False

    async def send(self, number: int, device: Device) -> None:
        for batch in range(BATCHES):
            await device.send(1 + batch * ROWS, ROWS, large(1 + batch * ROWS))
            self.sent[number] += 1
            if self.over:
                return

    async def until_held_back(self) -> None:
        """Nothing more gets out for a while."""
        before = -1
        while sum(self.sent) != before:
            before = sum(self.sent)
            await asyncio.sleep(QUIET_S)


def test_while_the_database_stands_still_devices_are_held_back_and_memory_stays_flat(postgresql: Cluster) -> None:
    url = postgresql.new_database()

    async def scene(database: Database) -> None:
        server, address = await start_server(url)
        pid = server.pid or 0
        async with AsyncExitStack() as stack:
            stack.callback(kill, server)
            devices = [await stack.enter_async_context(device_of(address)) for _ in range(DEVICES)]
            for number, device in enumerate(devices):
                await device.hello(f"edge-{number}")
            before, flood = memory_bytes(pid), Flood()
            with database.transaction() as connection:
                connection.execute(text("SELECT * FROM streams FOR UPDATE"))
                sending = [asyncio.create_task(flood.send(*one)) for one in enumerate(devices)]
                await flood.until_held_back()
                grown = memory_bytes(pid) - before
                offered = DEVICES * BATCHES * len(large(1))
                assert grown < DEVICES * STREAM_BYTES < offered / 4
                assert sum(flood.sent) < DEVICES * BATCHES
                flood.over = True
            for number, device in enumerate(devices):
                await device.until_acknowledged(flood.sent[number] * ROWS)
            await asyncio.gather(*sending)
        for number in range(DEVICES):
            assert len(stored(database, f"edge-{number}")) == flood.sent[number] * ROWS

    with closing(Database(url)) as database:
        database.create()
        asyncio.run(scene(database))


def test_a_device_that_floods_slows_no_other(postgresql: Cluster) -> None:
    """While one has filled its share of what may wait, what another sends is in the next commits all the same."""
    url = postgresql.new_database()

    async def scene(database: Database) -> None:
        async with running_cloud(url) as cloud, device_of(cloud.address) as loud, device_of(cloud.address) as quiet:
            await loud.hello("edge-0")
            await quiet.hello("edge-1")
            flood = Flood()
            with database.transaction() as connection:
                connection.execute(text("SELECT * FROM streams FOR UPDATE"))
                sending = asyncio.create_task(flood.send(0, loud))
                await flood.until_held_back()
                flood.over = True
                await quiet.send(1, ROWS, large(1))
            await quiet.until_acknowledged(ROWS)
            stored_meanwhile = len(cloud.stored("edge-0")) // ROWS
            await sending
            await loud.until_acknowledged(flood.sent[0] * ROWS)
            assert stored_meanwhile < flood.sent[0] / 2

    with closing(Database(url)) as database:
        database.create()
        asyncio.run(scene(database))
