"""Many streams, one commit at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import chain

import pytest

from cloud.uplink.entities import Fate, Outcome, ReceivedBatch
from cloud.uplink.merge import SHARES, Merger, NotCommitted
from protos.topics import MAX_BATCH_ROWS


def batch(first_seq: int, count: int = 10, size: int = 10, stream: int = 1, device: str = "") -> ReceivedBatch:
    return ReceivedBatch(stream, device or f"edge-{stream}", first_seq, count, bytes(size), first_seq - 1)


class Commits:
    """A database that remembers what came together, and can be held or made to fail."""

    def __init__(self) -> None:
        self.together: list[list[int]] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.began = threading.Event()
        self.failing = False

    def __call__(self, batches: Sequence[ReceivedBatch], _: int) -> Sequence[Outcome]:
        self.began.set()
        self.may_go.wait()
        if self.failing:
            raise OSError("disk full")
        self.together.append([b.first_seq for b in batches])
        return [Outcome(Fate.STORED, b.first_seq + b.count - 1) for b in batches]


def test_batches_are_committed_together_up_to_the_rows() -> None:
    async def scenario() -> None:
        commits = Commits()
        merger = Merger(commits, rows=30, wait_s=3600)
        outcomes = [await merger.submit(batch(first)) for first in (1, 11, 21, 31)]
        merger.close()
        await merger.run()
        assert commits.together == [[1, 11, 21], [31]]
        assert [o.result().watermark for o in outcomes] == [10, 20, 30, 40]

    asyncio.run(scenario())


def test_a_batch_that_says_it_has_billions_of_rows_takes_no_more_room_than_one_may() -> None:
    async def scenario() -> None:
        commits = Commits()
        merger = Merger(commits, rows=MAX_BATCH_ROWS + 20, wait_s=3600)
        for stream, (first, count) in enumerate([(1, 10), (2, 2**32 - 1), (3, 10)]):
            await merger.submit(batch(first, count, stream=stream))
        merger.close()
        await merger.run()
        assert commits.together == [[1, 2, 3]]

    asyncio.run(scenario())


def test_the_oldest_batch_waits_no_longer_than_told() -> None:
    async def scenario() -> None:
        commits = Commits()
        merger = Merger(commits, rows=10_000, wait_s=0.01)
        running = asyncio.create_task(merger.run())
        outcome = await (await merger.submit(batch(1)))
        assert outcome.watermark == 10
        merger.close()
        await running

    asyncio.run(scenario())


def test_while_one_commit_runs_the_next_fills() -> None:
    async def scenario() -> None:
        commits = Commits()
        commits.may_go.clear()
        merger = Merger(commits, rows=10, wait_s=3600)
        running = asyncio.create_task(merger.run())
        await merger.submit(batch(1))
        await asyncio.to_thread(commits.began.wait)
        for first in (11, 14, 17):
            await merger.submit(batch(first, count=3))
        commits.may_go.set()
        merger.close()
        await running
        assert commits.together == [[1], [11, 14, 17]]

    asyncio.run(scenario())


def test_a_flood_lets_every_other_stream_into_the_next_commit() -> None:
    async def scenario() -> None:
        commits = Commits()
        merger = Merger(commits, rows=40, wait_s=3600)
        for first in range(1, 101, 10):
            await merger.submit(batch(first))
        for stream in (2, 3):
            for first in (1001, 1011):
                await merger.submit(batch(first, stream=stream))
        merger.close()
        await merger.run()
        assert commits.together[:2] == [[1, 1001, 1001, 11], [1011, 1011, 21, 31]]
        assert list(chain(*commits.together[2:])) == [41, 51, 61, 71, 81, 91]

    asyncio.run(scenario())


def test_a_flood_fills_no_more_than_its_own_share_of_what_may_wait() -> None:
    async def scenario() -> None:
        commits = Commits()
        merger = Merger(commits, rows=10, wait_s=3600, max_waiting_bytes=SHARES * 200)
        for first in range(1, 31, 10):
            await merger.submit(batch(first))
        flood = asyncio.create_task(merger.submit(batch(31)))
        await merger.submit(batch(1, stream=2))
        assert not flood.done()
        running = asyncio.create_task(merger.run())
        await (await flood)
        merger.close()
        await running
        assert [1] in commits.together
        assert commits.together[-1] == [31]

    asyncio.run(scenario())


def test_all_streams_of_a_device_have_one_share_of_what_may_wait() -> None:
    async def scenario() -> None:
        commits = Commits()
        merger = Merger(commits, rows=10, wait_s=3600, max_waiting_bytes=SHARES * 200)
        for first in range(1, 31, 10):
            await merger.submit(batch(first, device="edge-1"))
        held = asyncio.create_task(merger.submit(batch(1, stream=2, device="edge-1")))
        await merger.submit(batch(1, stream=3, device="edge-3"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not held.done()
        running = asyncio.create_task(merger.run())
        await (await held)
        merger.close()
        await running

    asyncio.run(scenario())


def test_a_batch_larger_than_a_commit_goes_alone() -> None:
    async def scenario() -> None:
        commits = Commits()
        merger = Merger(commits, rows=5, wait_s=3600)
        await merger.submit(batch(1, count=100))
        await merger.submit(batch(101, count=1))
        merger.close()
        await merger.run()
        assert commits.together == [[1], [101]]

    asyncio.run(scenario())


def test_a_full_queue_holds_back_who_submits() -> None:
    async def scenario() -> None:
        commits = Commits()
        merger = Merger(commits, rows=1, wait_s=3600, max_waiting_bytes=1000)
        await merger.submit(batch(1, size=2000))
        held = asyncio.create_task(merger.submit(batch(11)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not held.done()
        running = asyncio.create_task(merger.run())
        assert (await (await held)).watermark == 20
        merger.close()
        await running

    asyncio.run(scenario())


def test_a_failed_commit_fails_its_batches_and_the_merger_goes_on() -> None:
    async def scenario() -> None:
        commits = Commits()
        commits.failing = True
        merger = Merger(commits, rows=1, wait_s=0)
        running = asyncio.create_task(merger.run())
        with pytest.raises(NotCommitted) as caught:
            await (await merger.submit(batch(1)))
        assert isinstance(caught.value.__cause__, OSError)
        commits.failing = False
        assert (await (await merger.submit(batch(1)))).watermark == 10
        merger.close()
        await running

    asyncio.run(scenario())


def test_what_waits_when_the_merger_is_cancelled_is_not_committed() -> None:
    async def scenario() -> None:
        merger = Merger(Commits(), rows=1000, wait_s=3600)
        running = asyncio.create_task(merger.run())
        outcome = await merger.submit(batch(1))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(NotCommitted):
            await outcome

    asyncio.run(scenario())


def test_a_stream_that_no_longer_waits_disturbs_nobody() -> None:
    async def scenario() -> None:
        commits = Commits()
        merger = Merger(commits, rows=100, wait_s=3600)
        gone, stays = await merger.submit(batch(1)), await merger.submit(batch(11))
        gone.cancel()
        merger.close()
        await merger.run()
        assert stays.result().watermark == 20

    asyncio.run(scenario())
