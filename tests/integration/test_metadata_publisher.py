"""Metadata on a real broker: all of it, put right when someone changes it, said again when the broker has forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloud.delivery import metadata
from cloud.delivery.metadata import MetadataPublisher
from cloud.foundation.broker import Kind
from edge.delivery.trust import Trust
from edge.delivery.trust_sources import FromBroker
from protos import topics
from protos.kit.link import Link
from tests.sites import Site, both, scenario
from tests.trust_kit import Fleet, digest, now_ms


class Ear:
    """What the broker holds on the metadata's topics."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._news = asyncio.Event()

    async def listen(self, link: Link) -> None:
        await link.subscribe(self._hear, topics.ALL_METADATA)

    async def until(self, holds: Callable[[dict[str, bytes]], bool]) -> None:
        while not holds({name: data for name, data in self.files.items() if data}):
            self._news.clear()
            await self._news.wait()

    def _hear(self, topic: str, data: bytes) -> None:
        self.files[topic.rpartition("/")[2]] = data
        self._news.set()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet(tmp_path / "fleet")
    made.register("digits", 1)
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "POLL_S", 0.02)
    monkeypatch.setattr(metadata, "RENEW_S", 0.02)


@asynccontextmanager
async def publishing(site: Site, fleet: Fleet) -> AsyncIterator[Link]:
    async with site.link("cloud") as link:
        running = asyncio.create_task(MetadataPublisher(link, fleet.trust).run())
        try:
            yield link
        finally:
            running.cancel()
            await asyncio.wait({running})


@both
def test_a_device_with_a_root_follows_the_fleet_over_the_broker(kind: Kind, tmp_path: Path, fleet: Fleet) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), publishing(site, fleet), site.link("edge-1") as link:
            trust = Trust(tmp_path / "metadata", fleet.root, [FromBroker(link)], 600, now_ms)
            await trust.check("digits", 1, digest("digits/1"), 0)
            fleet.changes.rotate(["root"], fleet.now_ms)
            fleet.register("digits", 2)
            async with asyncio.timeout(30):
                while True:
                    try:
                        await trust.check("digits", 2, digest("digits/2"), 0)
                        break
                    except OSError:
                        await asyncio.sleep(0.05)
            assert trust.alarms == []

    scenario(kind, tmp_path, test)


@both
def test_what_is_new_is_published_and_what_is_forgotten_is_cleared(kind: Kind, tmp_path: Path, fleet: Fleet) -> None:
    async def test(site: Site) -> None:
        ear = Ear()
        async with site.broker(), publishing(site, fleet), site.link("ear") as link:
            await ear.listen(link)
            await ear.until(lambda files: files == fleet.files())
            for version in range(2, 6):
                fleet.register("digits", version)
            await ear.until(lambda files: files == fleet.files())
            assert ear.files["1.digits.json"] == b""

    scenario(kind, tmp_path, test)


def test_a_broker_that_forgot_everything_is_told_again(tmp_path: Path, fleet: Fleet) -> None:
    async def test(site: Site) -> None:
        async with publishing(site, fleet), site.link("ear") as link:
            for _ in range(2):
                ear = Ear()
                async with site.broker():
                    await ear.listen(link)
                    await ear.until(lambda files: files == fleet.files())

    scenario("amqtt", tmp_path, test)


def test_what_others_write_there_is_put_right(tmp_path: Path, fleet: Fleet) -> None:
    async def test(site: Site) -> None:
        ear = Ear()
        async with site.broker(), publishing(site, fleet), site.link("rogue") as rogue:
            await ear.listen(rogue)
            await ear.until(lambda files: files == fleet.files())
            await rogue.publish(topics.metadata("timestamp.json"), b"{}", retain=True)
            await rogue.publish(topics.metadata("9.root.json"), b"{}", retain=True)
            await rogue.publish(topics.METADATA_INDEX, b"", retain=True)
            await ear.until(lambda files: "9.root.json" in files)
            await ear.until(lambda files: files == fleet.files())

    scenario("amqtt", tmp_path, test)


def test_the_timestamp_is_renewed_without_anyone_asking(tmp_path: Path, fleet: Fleet) -> None:
    async def test(site: Site) -> None:
        ear = Ear()
        fleet.ahead_ms = -3 * 3_600_000
        fleet.register("digits", 2)
        before = fleet.trust.timestamp_version()
        async with site.broker(), publishing(site, fleet), site.link("ear") as link:
            await ear.listen(link)
            await ear.until(lambda files: files == fleet.files() and fleet.trust.timestamp_version() == before + 1)

    scenario("amqtt", tmp_path, test)
