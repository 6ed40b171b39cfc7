"""A transfer whose broker goes away in the middle: what the device has on its disk it never fetches again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cloud.registry import chunks
from edge.delivery.entities import Limits
from edge.delivery.mqtt import Fetcher
from edge.delivery.rules import MAX_WINDOW
from protos import topics
from protos.kit import client, session
from protos.kit import link as link_module
from protos.kit.link import Link
from protos.v1.manifest_pb2 import Artifact
from simulators.relay import Faults, Relay
from tests.integration.publisher_kit import PATIENCE_S, Cloud, linked, observing, publishing
from tests.mosquitto import Mosquitto, needs_mosquitto

CHUNK_BYTES = 4096
CHUNKS = 200
SLOW = 400_000.0  # bytes a second: the artifact takes two

pytestmark = needs_mosquitto


@pytest.fixture(autouse=True)
def small_and_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(link_module, "LONGEST_DELAY_S", 0.5)


@dataclass
class Device:
    """One that fetches an artifact, slowly, and counts what comes."""

    artifact: Artifact
    folder: Path
    came: Counter[int] = field(default_factory=Counter)
    halfway: asyncio.Event = field(default_factory=asyncio.Event)
    present: int = 0

    async def fetch(self, link: Link) -> None:
        subscribe = link.subscribe

        async def counted(handler: Callable[[str, bytes], None], *wanted: str) -> None:
            def count(topic: str, payload: bytes) -> None:
                self.came[topics.chunk_of(topic)[1]] += 1
                handler(topic, payload)

            await subscribe(count, *wanted)

        link.subscribe = counted  # type: ignore[method-assign,assignment]
        path = await Fetcher(link, {}, self.folder).artifact(self.artifact, self.tell)
        assert path.stat().st_size == self.artifact.size

    def tell(self, present: int, total: int) -> None:
        self.present = present
        if present >= total / 2:
            self.halfway.set()

    @property
    def twice(self) -> int:
        return sum(count - 1 for count in self.came.values())


@dataclass
class World:
    """A device halfway through its transfer, behind a slow relay."""

    mosquitto: Mosquitto
    relay: Relay
    link: Link
    device: Device
    fetching: asyncio.Task[None]

    async def until_lost(self) -> None:
        while self.link.connected.is_set():  # noqa: ASYNC110 - a link tells of connects, not of losses
            await asyncio.sleep(0.01)

    async def arrive(self) -> None:
        """The rest comes, fast; what was on its way when the connection ended may come twice, and nothing else."""
        self.relay.faults = Faults()
        await self.fetching
        assert set(self.device.came) == set(range(CHUNKS))
        assert self.device.twice <= MAX_WINDOW


@asynccontextmanager
async def halfway(folder: Path, *, persistent: bool = False) -> AsyncIterator[World]:
    cloud, mosquitto = Cloud(folder), Mosquitto(folder, persistent=persistent)
    version = cloud.register(CHUNKS * CHUNK_BYTES)
    relay = Relay(mosquitto.address, Faults(bytes_per_s=SLOW))
    async with mosquitto.running(), publishing(mosquitto.address, cloud), relay.serving() as far:
        cloud.desire("edge-1", version)
        async with observing(mosquitto.address) as observer:
            await observer.until(lambda: topics.desired("edge-1") in observer.topics())
        async with linked(far, "edge-1") as link:
            device = Device(version.parsed().variants[0].artifact, folder / "device")
            fetching = asyncio.create_task(device.fetch(link))
            await device.halfway.wait()
            assert device.present < CHUNKS
            yield World(mosquitto, relay, link, device, fetching)


def play(scenario: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario

    asyncio.run(bounded())


@pytest.mark.parametrize("persistent", [True, False])
def test_a_broker_that_is_restarted_with_or_without_what_it_had_costs_no_chunk_twice(
    tmp_path: Path,
    persistent: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    async def scenario() -> None:
        async with halfway(tmp_path, persistent=persistent) as world:
            await world.mosquitto.stop()
            await world.until_lost()
            await world.mosquitto.start()
            await world.arrive()

    play(scenario())


def test_a_broker_that_stands_still_for_longer_than_any_keep_alive_is_left_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "KEEPALIVE_S", 1)
    monkeypatch.setattr(client, "ANSWER_S", 1.0)
    monkeypatch.setattr(session, "ANSWER_S", 1.0)

    async def scenario() -> None:
        async with halfway(tmp_path) as world:
            world.mosquitto.pause()
            await world.until_lost()
            world.mosquitto.go_on()
            await world.arrive()

    play(scenario())


def test_a_network_that_carries_nothing_for_longer_than_any_keep_alive_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "KEEPALIVE_S", 1)
    monkeypatch.setattr(client, "ANSWER_S", 1.0)
    monkeypatch.setattr(session, "ANSWER_S", 1.0)

    async def scenario() -> None:
        async with halfway(tmp_path) as world:
            world.relay.faults.silent = True
            await world.until_lost()
            await world.arrive()

    play(scenario())


def test_a_connection_that_is_cut_again_and_again_brings_it_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with halfway(tmp_path) as world:
            for _ in range(5):
                world.relay.cut()
                await world.until_lost()
                await world.link.connected.wait()
            world.relay.faults = Faults()
            await world.fetching
            assert world.device.twice <= 5 * MAX_WINDOW

    play(scenario())


def test_with_a_rate_chunks_are_asked_for_as_it_allows_and_not_a_window_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        cloud, mosquitto = Cloud(tmp_path), Mosquitto(tmp_path, persistent=False)
        version = cloud.register(10 * CHUNK_BYTES)
        async with mosquitto.running(), publishing(mosquitto.address, cloud), linked(mosquitto.address, "edge") as link:
            cloud.desire("edge-1", version)
            async with observing(mosquitto.address) as observer:
                await observer.until(lambda: topics.desired("edge-1") in observer.topics())
            fetcher = Fetcher(link, {}, tmp_path / "device", Limits(rate=10 * CHUNK_BYTES))
            asked: list[int] = []
            artifact = version.parsed().variants[0].artifact
            await fetcher.artifact(artifact, lambda *_: asked.append(len(link._handlers)))
            assert max(asked) <= 2

    play(scenario())
