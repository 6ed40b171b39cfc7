"""Requests to the broker overlap, within a bound, and stop at the first failure."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.delivery.window import Slots, in_window


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


def test_a_free_place_goes_to_the_smallest_job_that_waits() -> None:
    async def scenario() -> None:
        slots, begun = Slots(1), list[int]()

        async def part(size: int) -> None:
            async with slots.one(size):
                begun.append(size)
                await asyncio.sleep(0)

        await asyncio.gather(*(part(size) for size in (1000, 1000, 20, 1, 20)))
        assert begun == [1000, 1, 20, 20, 1000]

    asyncio.run(scenario())


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=12), st.integers(1, 3))
def test_places_are_never_more_nor_lost_whoever_is_cancelled_while_waiting(
    jobs: list[tuple[int, bool]], places: int
) -> None:
    async def scenario() -> None:
        slots, inside = Slots(places), 0

        async def part(size: int) -> None:
            nonlocal inside
            async with slots.one(size):
                inside += 1
                assert inside <= places
                try:
                    await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(part(size)) for size, _ in jobs]
        await asyncio.sleep(0)
        for task, (_, is_cancelled) in zip(tasks, jobs, strict=True):
            if is_cancelled:
                task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(isinstance(outcome, Exception) for outcome in outcomes)
        await asyncio.wait_for(asyncio.gather(*(part(1) for _ in range(2 * places))), 1)

    asyncio.run(scenario())
