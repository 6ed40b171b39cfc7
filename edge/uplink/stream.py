"""One stream to the cloud, from its greeting to its end: what goes on it, in which order, and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import grpc.aio
import structlog

from edge.uplink.entities import StoredBatch
from edge.uplink.lane import Lane
from edge.uplink.pace import Pace
from protos.kit import packing
from protos.kit.kinds import Kind
from protos.topics import MAX_GRPC_BYTES
from protos.v1.uplink_pb2 import PACKING_ZSTD, Batch, Hello, UplinkMessage, UplinkReply, Welcome

WELCOME_S = 10.0
READ_AT_ONCE = 64
BOOKS_S = 10.0
"""The books are said no more often, but for a gap."""

BACKLOG_BYTES = 16 * 1024
"""Of each kind besides results that may go at once while no result waits."""

Call = grpc.aio.StreamStreamCall[UplinkMessage, UplinkReply]


class Cut(Exception):
    """The stream is over; the message says why. Connect again."""


class Spare(Protocol):
    """What has the stream when nothing else waits to be sent, such as samples."""

    def begin(self) -> None:
        """A new stream begins."""

    async def next(self) -> UplinkMessage | None:
        """What to send now, small; None: nothing."""

    async def heard(self, reply: UplinkReply) -> None:
        """A reply that is about no lane."""


@dataclass(frozen=True, slots=True)
class Load:
    """What goes on a stream. lanes: that of results first. take_news: what is not numbered, the newest of each.

    wake: set when something may be sent: new batches, news, room in a window. spare: comes last.
    """

    lanes: Sequence[Lane]
    take_news: Callable[[], list[UplinkMessage]]
    wake: asyncio.Event
    spare: Spare | None = None


class Stream:
    """One stream. News goes first, then events and telemetry, then results; of backlogs each kind has the same share.

    The rate holds back what is a backlog, and results, which may be one of days; never what is news of this moment.
    """

    def __init__(self, device: str, load: Load, pace: Pace, logger: structlog.typing.FilteringBoundLogger) -> None:
        self.welcomed = False
        self._device = device
        self._lanes: dict[int, Lane] = {lane.kind: lane for lane in load.lanes}
        self._results, *self._others = load.lanes
        self._take_news = load.take_news
        self._wake = load.wake
        self._spare = load.spare
        self._pace = pace
        self._log = logger
        self._max_bytes = MAX_GRPC_BYTES
        self._packs = False

    @property
    def settled(self) -> bool:
        """Whether the server has stored anything, or set it aside."""
        return any(lane.settled for lane in self._lanes.values())

    def takes(self, kind: Kind) -> bool:
        """Whether the server takes this kind."""
        return self.welcomed and kind in self._lanes and self._lanes[kind].is_taken

    async def run(self, call: Call) -> None:
        """Return never; raise when the stream is over."""
        await call.write(UplinkMessage(hello=self._hello()))
        try:
            async with asyncio.timeout(WELCOME_S):
                reply = await _read(call)
        except TimeoutError as error:
            raise Cut(f"no welcome within {WELCOME_S:g} s") from error
        if reply.WhichOneof("body") != "welcome":
            raise Cut("the server's first word was not a welcome")
        await self._begin(reply.welcome)
        deletions = [lane.delete() for lane in self._lanes.values() if lane.is_taken]
        await _until_one_ends(self._receive(call), self._send(call), *deletions)

    def _hello(self) -> Hello:
        own = self._results.line()
        return Hello(
            device=self._device, epoch=own.epoch, books=own.books, lines=[lane.line() for lane in self._others]
        )

    async def _begin(self, welcome: Welcome) -> None:
        marks: dict[int, int] = {mark.kind: mark.watermark for mark in welcome.marks}
        marks[self._results.kind] = welcome.watermark
        taken = [lane for lane in self._lanes.values() if lane.kind in marks]
        begun = [await lane.begin(marks[lane.kind], welcome.window) for lane in taken]
        if not all(begun):
            raise Cut("a new epoch has to be greeted anew")
        self._max_bytes = welcome.max_batch_bytes or MAX_GRPC_BYTES
        self._packs = PACKING_ZSTD in welcome.packings
        if self._spare:
            self._spare.begin()
        self.welcomed = True
        self._log.info("uplink streams", watermark=welcome.watermark, kinds=[str(lane.kind) for lane in taken])

    # What comes back.

    async def _receive(self, call: Call) -> None:
        while True:
            reply = await _read(call)
            match reply.WhichOneof("body"):
                case "ack" if lane := self._lanes.get(reply.ack.kind):
                    lane.acknowledged(reply.ack.watermark)
                case "quarantined" if lane := self._lanes.get(reply.quarantined.kind):
                    lane.quarantined(reply.quarantined)
                case "delay":
                    self._pace.hush(reply.delay.milliseconds)
                case "sample_policies" | "sample_answer" if self._spare:
                    await self._spare.heard(reply)
                    self._wake.set()
                case other:
                    # A newer server may say more than this device understands.
                    self._log.debug("reply ignored", kind=other)

    # What goes.

    async def _send(self, call: Call) -> None:
        while True:
            self._wake.clear()
            if not await self._send_some(call) and not await self._send_spare(call):
                await self._wake.wait()

    async def _send_some(self, call: Call) -> bool:
        """Something of every kind that waits; whether there was anything."""
        await self._pace.silence()
        await self._send_fresh(call)
        for lane in self._lanes.values():
            await self._say_books(call, lane, at_least_s=BOOKS_S)
        sent = await self._send_backlog(call, BACKLOG_BYTES)
        for batch in await self._results.next(READ_AT_ONCE):
            await self._send_backlog(call, len(batch.payload))
            await self._due(call)
            sent = await self._send_batch(call, self._results, batch) or sent
        return sent

    async def _send_fresh(self, call: Call) -> None:
        """What is news of this moment: old results can wait."""
        for news in self._take_news():
            await call.write(news)
        for lane in self._others:
            if lane.is_fresh:
                for batch in await lane.next(READ_AT_ONCE):
                    await self._send_batch(call, lane, batch)

    async def _send_backlog(self, call: Call, most_bytes: int) -> bool:
        """Of each kind besides results so many bytes, or one batch; whether there were any."""
        sent = False
        for lane in self._others:
            left = most_bytes
            for batch in await lane.next(READ_AT_ONCE):
                if left <= 0:
                    break
                left -= len(batch.payload)
                await self._due(call)
                sent = await self._send_batch(call, lane, batch) or sent
        return sent

    async def _due(self, call: Call) -> None:
        """Return when rate and server let the next batch go; meanwhile, and before it, what is fresh goes."""
        await self._pace.silence()
        await self._send_fresh(call)
        while (left := self._pace.owed_s) > 0:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
            await self._pace.silence()
            await self._send_fresh(call)

    async def _send_batch(self, call: Call, lane: Lane, batch: StoredBatch) -> bool:
        """Whether it went: it may have gone before, while the rate was waited for."""
        if not lane.may_send(batch):
            return False
        if len(batch.payload) > self._max_bytes:
            # Kept, not dropped: one wrong setting of the server must not cost the fleet its results.
            raise Cut(
                f"batch {batch.first_seq} of {lane.kind} has {len(batch.payload)} bytes, the server takes "
                f"{self._max_bytes}: raise the server's limit"
            )
        if lane.follows_gap(batch):
            await self._say_books(call, lane)
        lane.send(batch)
        self._pace.pay(len(batch.payload))
        await call.write(UplinkMessage(batch=_message(lane.kind, batch, packed=self._packs)))
        return True

    async def _say_books(self, call: Call, lane: Lane, at_least_s: float = 0.0) -> None:
        if books := lane.news_of_books(at_least_s):
            await call.write(UplinkMessage(books=books))

    async def _send_spare(self, call: Call) -> bool:
        """One message that is on no lane, if nothing waits to be sent, not even for room in a window."""
        if self._spare is None or any(lane.waits for lane in self._lanes.values()):
            return False
        if self._pace.owed_s > 0:
            await self._due(call)
            return True  # meanwhile there may be results
        message = await self._spare.next()
        if message is not None:
            self._pace.pay(message.ByteSize())
            await call.write(message)
        return message is not None


def _message(kind: Kind, batch: StoredBatch, *, packed: bool) -> Batch:
    message = Batch(first_seq=batch.first_seq, count=batch.count, kind=kind.value)
    if packed and (payload := packing.pack(batch.payload)) is not None:
        message.payload, message.packing = payload, PACKING_ZSTD
    else:
        message.payload = batch.payload
    return message


async def _until_one_ends(*work: Coroutine[None, None, None]) -> None:
    """Run all until the first ends, end the others, and raise what the first did.

    No task group: before Python 3.13 one that fails at the moment of its cancellation raises the failure only, and who
    handles that would never stop.
    """
    tasks = [asyncio.create_task(one) for one in work]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


async def _read(call: Call) -> UplinkReply:
    reply = await call.read()
    if not isinstance(reply, UplinkReply):
        raise Cut("the server ended the stream")
    return reply
