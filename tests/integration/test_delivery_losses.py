"""One chunk in five is lost: wherever it is, the cloud sends little more than the artifact, to few or many devices.

Run with `-s` it shows how much more.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from cloud.foundation.broker import Kind
from cloud.registry import chunks
from edge.delivery import rules
from edge.delivery.entities import Limits
from edge.delivery.mqtt import Fetcher
from protos import topics
from protos.kit.link import Address
from protos.v1.manifest_pb2 import Artifact
from simulators.relay import Faults, Relay, is_chunk
from tests.integration.publisher_kit import Cloud, linked, observing, play, publishing
from tests.mosquitto import needs_mosquitto
from tests.sites import both

CHUNK_BYTES = 2048
CHUNKS = 64
LOSS = 0.2
MOST_OVERHEAD = 0.4


@dataclass(frozen=True)
class Kinds:
    """publications: between cloud and broker, so that nobody finds them. deliveries: to one device each."""

    publications: float = 0.0
    deliveries: float = 0.0


LOSSES = {
    "publications": Kinds(publications=LOSS),
    "deliveries": Kinds(deliveries=LOSS),
    "both": Kinds(publications=LOSS, deliveries=LOSS),
}


@pytest.fixture(autouse=True)
def small_chunks_and_little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(rules, "SHORTEST_PATIENCE_S", 0.1)


async def receive(address: Address, name: str, artifact: Artifact, folder: Path) -> None:
    async with linked(address, name) as link:
        fetcher = Fetcher(link, {}, folder / name, Limits(jitter_s=0.5))
        path = await fetcher.artifact(artifact, lambda *_: None)
        assert path.stat().st_size == artifact.size  # proven by the fetcher


def measure(kind: Kind, folder: Path, devices: int, lost: Kinds) -> float:
    """The cloud's bytes of chunks, as a multiple of the artifact."""
    sent = 0

    async def scenario(broker: Address, cloud: Cloud) -> None:
        nonlocal sent
        version = cloud.register(CHUNKS * CHUNK_BYTES)
        up = Relay(broker, Faults(lost_publications=lost.publications), seed=1)
        down = Relay(broker, Faults(lost_deliveries=lost.deliveries), seed=2)
        async with AsyncExitStack() as stack:
            far = await stack.enter_async_context(up.serving())
            near = await stack.enter_async_context(down.serving())
            observer = await stack.enter_async_context(observing(broker))
            await stack.enter_async_context(publishing(far, cloud))
            cloud.desire("edge-0", version)
            await observer.until(lambda: topics.desired("edge-0") in observer.topics())
            artifact = version.parsed().variants[0].artifact
            await asyncio.gather(*(receive(near, f"edge-{number}", artifact, folder) for number in range(devices)))
            sent = sum(size for topic, size in up.traffic.publications if is_chunk(topic))

    play(kind, folder, scenario)
    multiple = sent / (CHUNKS * CHUNK_BYTES)
    structlog.get_logger().info("cloud's bytes", devices=devices, lost=lost, broker=kind, multiple=round(multiple, 2))
    return multiple


@both
def test_without_losses_the_cloud_sends_the_artifact_once(kind: Kind, tmp_path: Path) -> None:
    assert measure(kind, tmp_path, 10, Kinds()) == 1


@both
@pytest.mark.parametrize("lost", LOSSES)
def test_ten_devices_cost_little_more_than_the_artifact(kind: Kind, tmp_path: Path, lost: str) -> None:
    assert measure(kind, tmp_path, 10, LOSSES[lost]) <= 1 + MOST_OVERHEAD


@needs_mosquitto
@pytest.mark.parametrize("lost", ["publications", "deliveries"])
def test_two_hundred_devices_cost_no_more_than_ten(tmp_path: Path, lost: str) -> None:
    assert measure("mosquitto", tmp_path, 200, LOSSES[lost]) <= 1 + MOST_OVERHEAD
