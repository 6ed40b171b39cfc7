"""Batches of many streams merged into one commit at a time: while one is written, the next fills.

A commit costs the same sync to disk for one row as for thousands. It begins when enough rows wait, or the oldest has
waited long enough. What waits is bounded in bytes, in all and for each stream: a slow database holds the devices back,
and does not fill memory; a device that floods holds back itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from cloud.foundation.metrics import DATABASE_ERRORS
from cloud.uplink import metrics
from cloud.uplink.entities import Outcome, ReceivedBatch
from cloud.uplink.turns import Turns, Waiting

MAX_WAITING_BYTES = 64 * 1024 * 1024
SHARES = 64
"""A stream may take one of so many shares of what waits."""

Commit = Callable[[Sequence[ReceivedBatch], int], Sequence[Outcome]]

log = structlog.get_logger()


class NotCommitted(Exception):
    """The database did not take a batch, nor any that was to be committed with it. Send them again later."""


class Merger:
    """The one queue between all streams and the database.

    `commit` is called with (batches, now in Unix ms) in a thread of its own. `rows` and `wait_s` bound a commit.
    """

    def __init__(self, commit: Commit, *, rows: int, wait_s: float, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self._commit = commit
        self._max_rows = rows
        self._wait_s = wait_s
        self._max_bytes = max_waiting_bytes
        self._waiting = Turns()
        self._bytes = 0
        self._stream_bytes: Counter[int] = Counter()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False

    async def submit(self, batch: ReceivedBatch) -> asyncio.Future[Outcome]:
        """Queue a batch, waiting while the queue is full. The future has its outcome after the commit, or NotCommitted.

        Batches of one stream are committed in the order in which they are submitted.
        """
        while self._bytes >= self._max_bytes or self._stream_bytes[batch.stream] >= self._max_bytes // SHARES:
            self._room.clear()
            await self._room.wait()
        loop = asyncio.get_running_loop()
        waiting = Waiting(batch, loop.time(), loop.create_future())
        self._waiting.add(waiting)
        self._bytes += waiting.cost
        metrics.WAITING_BYTES.inc(waiting.cost)
        self._stream_bytes[batch.stream] += waiting.cost
        self._arrived.set()
        return waiting.outcome

    async def run(self) -> None:
        """Commit what arrives, until `close` has been called and nothing waits any more."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        try:
            while await self._due():
                await self._commit_together(thread, self._waiting.take(self._max_rows))
        finally:
            thread.shutdown(wait=False)  # waiting here for a commit that hangs would stop everything else
            _fail(self._waiting, NotCommitted("the ingest has stopped"))

    def close(self) -> None:
        """Let `run` end once everything submitted before has its outcome."""
        self._closing = True
        self._arrived.set()

    async def _due(self) -> bool:
        """Wait until a commit is due; False when there will be none any more."""
        while not self._waiting:
            if self._closing:
                return False
            self._arrived.clear()
            await self._arrived.wait()
        due_at = self._waiting.oldest_since + self._wait_s
        while self._waiting.rows < self._max_rows and not self._closing:
            left = due_at - asyncio.get_running_loop().time()
            if left <= 0:
                break
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                break
        return True

    async def _commit_together(self, thread: ThreadPoolExecutor, taken: Sequence[Waiting]) -> None:
        batches = [waiting.batch for waiting in taken]
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            outcomes = await loop.run_in_executor(thread, self._commit, batches, int(time.time() * 1000))
        except Exception as error:  # noqa: BLE001 - whatever the trouble is, the devices keep the rows and send again
            DATABASE_ERRORS.labels("commit").inc()
            log.error("batches not committed", batches=len(batches), error=first_line(error))
            failure = NotCommitted("the database did not take the batch")
            failure.__cause__ = error
            _fail(taken, failure)
        else:
            ended = loop.time()
            metrics.committed(batches, outcomes, ended - began)
            for waiting, outcome in zip(taken, outcomes, strict=True):
                metrics.LATENCY_SECONDS.observe(ended - waiting.since)
                if not waiting.outcome.done():
                    waiting.outcome.set_result(outcome)
        finally:
            self._give_back(taken)

    def _give_back(self, taken: Iterable[Waiting]) -> None:
        for waiting in taken:
            self._bytes -= waiting.cost
            metrics.WAITING_BYTES.dec(waiting.cost)
            self._stream_bytes[waiting.batch.stream] -= waiting.cost
            if not self._stream_bytes[waiting.batch.stream]:
                del self._stream_bytes[waiting.batch.stream]
        self._room.set()


def _fail(waiting: Iterable[Waiting], failure: NotCommitted) -> None:
    for one in waiting:
        if not one.outcome.done():
            one.outcome.set_exception(failure)
            one.outcome.exception()  # its stream may be gone: that nobody then asks is no mistake


def first_line(error: Exception) -> str:
    """An error for the log: a database's message goes on for pages, with every row."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]
