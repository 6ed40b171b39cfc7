"""Refreshing in a running agent: one at a time, broken off when told, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadError

from edge.delivery import trust, trust_client
from edge.delivery.entities import NotDelivered
from edge.delivery.trust import Trust
from protos.v1.metadata_pb2 import MetadataIndex
from tests.trust_kit import DAY_MS, Fleet, Shelf, digest, now_ms

Scenario = Callable[[Trust, "Hesitant"], Awaitable[None]]


class Hesitant(Shelf):
    """A shelf that hands nothing out while `stuck`, and counts how many wait at once."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.stuck = False
        self.waiting = 0
        self.most_waiting = 0

    async def file(self, name: str) -> bytes:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            while self.stuck:  # noqa: ASYNC110 - as slow as a source can be
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.001)
            return await super().file(name)
        finally:
            self.waiting -= 1


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    made.register("digits", 1)
    return made


def play(folder: Path, fleet: Fleet, scenario: Scenario, refresh_s: float = 600) -> None:
    async def acts() -> None:
        source = Hesitant(fleet.files())
        async with asyncio.timeout(30):
            await scenario(Trust(folder / "metadata", fleet.root, [source], refresh_s, now_ms), source)

    asyncio.run(acts())


def telling(shelf: Shelf) -> None:
    """Let the shelf announce what lies on it."""
    shelf.announced = MetadataIndex.FromString(shelf.files["index"]).timestamp


def test_while_the_broker_tells_of_nothing_newer_what_was_verified_is_not_asked_for_again(
    tmp_path: Path, fleet: Fleet
) -> None:
    async def scenario(trust: Trust, source: Hesitant) -> None:
        telling(source)
        await trust.check("digits", 1, digest("digits/1"), 0)
        asked = len(source.asked)
        await trust.check("digits", 1, digest("digits/1"), 0)
        assert await trust.directors()
        assert len(source.asked) == asked

    play(tmp_path, fleet, scenario)


def test_where_the_source_tells_nothing_everything_is_asked_for_each_time(tmp_path: Path, fleet: Fleet) -> None:
    async def scenario(trust: Trust, source: Hesitant) -> None:
        await trust.directors()
        asked = len(source.asked)
        await trust.directors()
        assert source.asked[asked:].count("timestamp.json") == 1

    play(tmp_path, fleet, scenario)


def test_what_was_verified_counts_no_longer_once_it_has_expired(tmp_path: Path, fleet: Fleet) -> None:
    ahead_ms = 0

    async def acts() -> None:
        nonlocal ahead_ms
        source = Hesitant(fleet.files())
        telling(source)
        trust = Trust(tmp_path / "metadata", fleet.root, [source], 600, lambda: now_ms() + ahead_ms)
        await trust.directors()
        ahead_ms = 30 * DAY_MS
        with pytest.raises(NotDelivered):
            await trust.directors()

    asyncio.run(acts())


def test_news_is_fetched_before_a_deployment_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "SPREAD_S", 0.01)
    fleet = Fleet(tmp_path / "fleet")
    fleet.register("digits", 1)

    async def scenario(trust: Trust, source: Hesitant) -> None:
        telling(source)
        await trust.check("digits", 1, digest("digits/1"), 0)
        running = asyncio.create_task(trust.run())
        fleet.register("digits", 2)
        source.files = fleet.files()
        source.asked.clear()
        telling(source)
        while not any(name.endswith(".digits.json") for name in source.asked):  # noqa: ASYNC110 - play bounds it
            await asyncio.sleep(0.01)
        await trust.directors()  # whose turn comes after it
        running.cancel()
        await asyncio.wait({running})
        asked = len(source.asked)
        await trust.check("digits", 2, digest("digits/2"), 0)
        assert len(source.asked) == asked

    play(tmp_path, fleet, scenario)


def test_who_asks_while_another_asks_waits_for_his_turn(tmp_path: Path, fleet: Fleet) -> None:
    async def scenario(trust: Trust, source: Hesitant) -> None:
        checks = [trust.check("digits", 1, digest("digits/1"), 0) for _ in range(3)]
        await asyncio.gather(*checks, trust.directors())
        assert source.most_waiting == 1

    play(tmp_path, fleet, scenario)


def test_a_refresh_that_is_broken_off_ends_at_once_and_the_next_one_works(tmp_path: Path, fleet: Fleet) -> None:
    async def scenario(trust: Trust, source: Hesitant) -> None:
        source.stuck = True
        asking = asyncio.create_task(trust.directors())
        while not source.waiting:  # noqa: ASYNC110 - the state is polled
            await asyncio.sleep(0.005)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while source.waiting:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.005)
        source.stuck = False
        await trust.check("digits", 1, digest("digits/1"), 0)

    play(tmp_path, fleet, scenario)


def test_a_refresh_is_broken_off_also_before_its_thread_knows_what_it_waits_for(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = asyncio.run_coroutine_threadsafe

    async def scenario(_: Trust, source: Hesitant) -> None:
        source.stuck = True
        bridge = trust_client.Bridge(source)

        def break_off_in_between(asking: Coroutine[Any, Any, bytes], loop: asyncio.AbstractEventLoop) -> Future[bytes]:
            waiting = begin(asking, loop)
            bridge.break_off()
            return waiting

        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", break_off_in_between)
        with pytest.raises(DownloadError, match=r"^$"):
            await asyncio.to_thread(bridge.fetch, "http://fleet/timestamp.json")

    play(tmp_path, fleet, scenario)


def test_it_looks_again_from_time_to_time_and_clears_its_alarm_when_all_is_well(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "FIRST_PAUSE_S", 0.01)

    async def scenario(trust: Trust, source: Hesitant) -> None:
        good, source.files = source.files, Fleet(tmp_path / "foreign").files()
        running = asyncio.create_task(trust.run())
        while not trust.alarms:  # noqa: ASYNC110 - the state is polled as a person would look at it
            await asyncio.sleep(0.005)
        assert "not believed" in trust.alarms[0]
        source.files = good
        while trust.alarms:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.005)
        running.cancel()

    play(tmp_path, fleet, scenario, refresh_s=0.01)


def test_a_device_that_was_given_no_root_says_so_and_asks_nobody(tmp_path: Path, fleet: Fleet) -> None:
    async def act() -> None:
        source = Hesitant(fleet.files())
        rootless = Trust(tmp_path / "metadata", b"", [source], 600, now_ms)
        with pytest.raises(NotDelivered, match="has no root"):
            await rootless.directors()
        assert (source.asked, rootless.alarms) == ([], [str(rootless.alarms[0])])

    asyncio.run(act())
