"""100 MB: the device's memory stays flat, and nothing small waits for it."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloud.registry.entities import ModelVersion
from protos import topics
from tests.integration.publisher_kit import Cloud, Observer, observing, publishing
from tests.mosquitto import Mosquitto, needs_mosquitto

LARGE_BYTES = 100_000_000
MOST_GROWTH = 32_000_000
PATIENCE_S = 120


@asynccontextmanager
async def receiver(port: int, folder: Path) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.large_receiver", str(port), str(folder)),
        stdin=PIPE,
        stdout=PIPE,
        limit=2**20,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def ask(process: Process, version: ModelVersion) -> None:
    assert process.stdin
    process.stdin.write(version.parsed().variants[0].artifact.SerializeToString().hex().encode() + b"\n")
    await process.stdin.drain()


async def facts(process: Process) -> AsyncIterator[dict[str, int]]:
    assert process.stdout
    while line := await process.stdout.readline():
        if line.startswith(b"{"):
            yield json.loads(line)


async def told(observer: Observer, device: str) -> None:
    await observer.until(lambda: topics.desired(device) in observer.topics())


@needs_mosquitto
def test_a_device_takes_100_mb_with_flat_memory_and_hears_of_a_desired_state_meanwhile(tmp_path: Path) -> None:
    async def scenario() -> None:
        cloud, mosquitto = Cloud(tmp_path), Mosquitto(tmp_path, persistent=False)
        small, large = cloud.register(), cloud.register(LARGE_BYTES)
        async with (
            mosquitto.running(),
            observing(mosquitto.address) as observer,
            publishing(mosquitto.address, cloud),
            receiver(mosquitto.address.port, tmp_path / "device") as device,
        ):
            cloud.desire("edge-1", small)
            cloud.desire("edge-2", large)
            await told(observer, "edge-2")
            await ask(device, small)  # whatever memory the first one takes, the hundredth takes too
            news = facts(device)
            async for fact in news:
                if "growth" in fact:
                    break
            await ask(device, large)
            at, total, heard_at, growth = 0, 1, 0, 0
            async for fact in news:
                at, total = fact.get("present", at), fact.get("total", total)
                if at >= total / 3 and not cloud.fleet.desired("receiver"):
                    cloud.desire("receiver", small)
                if "desired" in fact:
                    heard_at = at
                if "growth" in fact:
                    growth = fact["growth"]
                    break
            assert 0 < heard_at < total == at
            assert growth < MOST_GROWTH

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))
