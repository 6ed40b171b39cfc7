"""Reports and presence over a real broker into the fleet's database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.fleet.mqtt import FleetMessages
from cloud.fleet.service import Fleet
from cloud.foundation.broker import embedded_broker
from cloud.foundation.database import Database
from protos import topics
from protos.kit.link import Link, Will
from protos.v1.report_pb2 import Report
from simulators.ports import free_port

PATIENCE_S = 60
PUBLIC = Ed25519PrivateKey.generate().public_key().public_bytes_raw()


def report(device: str = "edge-1", at: int = 1) -> bytes:
    return Report(device=device, public_key=PUBLIC, labels={"site": "a"}, reported_ms=at).SerializeToString()


@asynccontextmanager
async def running(*parts: Link | FleetMessages) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


def test_devices_are_heard_and_nonsense_does_them_no_harm(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'fleet.db'}")
    database.create()
    fleet = Fleet(database)

    async def story() -> None:
        async with embedded_broker("amqtt", "127.0.0.1", free_port(), tmp_path) as address:
            cloud = Link(address, "cloud")
            device = Link(address, "edge-1", Will(topics.presence("edge-1"), b"offline"))
            async with running(cloud, FleetMessages(cloud, fleet)), running(device):
                await device.connected.wait()
                await device.publish(topics.reported("edge-1"), b"\xff nonsense", retain=True)
                await device.publish(topics.reported("edge-2"), report("edge-3"), retain=True)
                await device.publish(topics.presence("edge-1"), b"maybe", retain=True)
                await device.publish(topics.presence("edge-1"), b"online", retain=True)
                await device.publish(topics.reported("edge-1"), report(), retain=True)
                await until(lambda: bool(fleet.devices()))
                assert fleet.device("edge-1").online
                assert [known.id for known in fleet.devices()] == ["edge-1"]
                await device.publish(topics.presence("edge-1"), b"offline", retain=True)
                await until(lambda: not fleet.device("edge-1").online)

    asyncio.run(story())
    database.close()
