"""Requests to the broker overlap, within a bound, and stop at the first failure."""

from __future__ import annotations

import asyncio

import pytest

from cloud.delivery.window import in_window


def test_every_item_is_done_and_never_more_at_once_than_the_window() -> None:
    running, most, done = 0, 0, []

    async def action(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    asyncio.run(in_window(4, action, range(20)))
    assert sorted(done) == list(range(20))
    assert most == 4


def test_after_a_failure_nothing_more_begins_and_it_is_raised() -> None:
    begun = []

    async def action(item: int) -> None:
        begun.append(item)
        await asyncio.sleep(0)
        if item == 2:
            raise RuntimeError("the broker is gone")

    with pytest.raises(RuntimeError, match="the broker is gone"):
        asyncio.run(in_window(3, action, range(100)))
    assert len(begun) < 10


def test_nothing_to_do_is_done() -> None:
    async def action(item: int) -> None:
        raise AssertionError(item)

    asyncio.run(in_window(3, action, []))


def test_cancelling_stops_all_of_it() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(in_window(3, lambda _: asyncio.sleep(60), range(100)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
