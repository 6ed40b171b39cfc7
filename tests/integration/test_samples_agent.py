"""The agent as a process: frames that its model is unsure of come to the cloud, whenever it is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import numpy as np

from cloud.app import known_versions
from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from cloud.samples import store_links
from cloud.samples.entities import Policy, Wanted
from cloud.samples.kept import FolderFrames
from cloud.samples.partials import Partials
from cloud.samples.rpc import SampleStreams
from cloud.samples.service import Samples
from cloud.uplink.merge import Merger
from cloud.uplink.queries import Queries
from cloud.uplink.questions import Which
from cloud.uplink.rpc import UplinkService
from cloud.uplink.server import IngestServer
from cloud.uplink.service import Ingest
from edge.samples.store import SampleStore
from edge.wiring import SAMPLES_FILE
from tests import tiny_models
from tests.integration.device_kit import Cloud, Device, world
from tests.integration.test_edge_agent import GOOD, is_final, register
from tests.waiting import eventually

UNSURE = np.array([[[101, 99], [98, 97]]], np.uint8)


@asynccontextmanager
async def ingest_for(cloud: Cloud) -> AsyncIterator[tuple[str, Samples]]:
    database = Database(f"sqlite:///{cloud.folder}/cloud.db")
    frames, parts = FolderFrames(cloud.folder / "frames"), Partials(cloud.folder / "partials")
    samples = Samples(database, cloud.registry, Fleet(database), frames, parts)
    ingest = Ingest(database, known_versions(cloud.registry))
    merger, streams = Merger(ingest.commit, rows=5000, wait_s=0.005), SampleStreams(samples, 0.05)
    service = UplinkService(ingest, merger, lambda _device, _telemetry: None)
    service.samples = streams
    server = IngestServer(service)
    port = server.bind("127.0.0.1", 0)
    await server.start()
    running = [asyncio.create_task(merger.run()), asyncio.create_task(streams.run())]
    try:
        yield f"127.0.0.1:{port}", samples
    finally:
        await server.stop(5)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        database.close()


def unlike(count: int) -> np.ndarray:
    """Unsure frames that all differ."""
    return UNSURE - np.arange(count, dtype=np.uint8).reshape(count, 1, 1)


def test_unsure_frames_of_an_agent_are_samples_whenever_it_is_killed(tmp_path: Path) -> None:
    async def acts() -> None:
        async with (
            world(tmp_path) as (cloud, device, _),
            ingest_for(cloud) as (uplink, samples),
        ):
            await scene(cloud, device, uplink, samples)

    async def scene(cloud: Cloud, device: Device, uplink: str, samples: Samples) -> None:
        samples.set_policy(Policy("unsure", 10_000, "tiny", below=0.9))
        version = register(cloud, GOOD)
        await cloud.publish(version)
        await cloud.deploy(version, 1)
        await device.start("--uplink", uplink)
        await cloud.slot(is_final(1))
        await device.logged("samples are chosen by new policies")
        await device.feed(np.concatenate([unlike(3), tiny_models.frames()]), 1)
        await eventually(lambda: len(samples.listed(Wanted())) == 3)
        await device.end()

        await device.start("--uplink", "127.0.0.1:9", "--log-level", "debug")
        await device.feed(unlike(20)[10:], 8)
        await device.logged("samples kept")
        await device.end()
        waiting = kept(device)
        assert waiting > 0
        await device.start("--uplink", uplink)
        await eventually(lambda: len(samples.listed(Wanted(limit=1000))) == 3 + waiting)

        found = {one.offer.frame: one for one in samples.listed(Wanted(limit=1000))}
        assert sorted(found)[:3] == [1, 2, 3]
        assert sorted(found)[3:4] >= [8], "of those between the model is sure"
        for frame, one in found.items():
            expected = unlike(3)[frame - 1] if frame <= 3 else unlike(20)[10 + frame - 8]
            assert samples.frame(one) == expected.tobytes()
        await eventually(lambda: all(one.result for one in samples.listed(Wanted(limit=1000))))
        with closing(Database(f"sqlite:///{cloud.folder}/cloud.db")) as database:
            page = Queries(database, store_links.of_frames).results(Which(), limit=1000)
        named = {one.frame: one.sample.id for one in page.results if one.sample}
        assert named == {frame: one.id for frame, one in found.items()}

    asyncio.run(acts())


def kept(device: Device) -> int:
    """Samples on the disk of an agent that has ended."""
    with closing(SampleStore.open(device.folder / SAMPLES_FILE)) as store:
        return len(store.after(0, 1000))
