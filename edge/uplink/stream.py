"""One stream to the cloud, from its greeting to its end: sends in order, and deletes only what is committed there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Protocol

import grpc.aio
import structlog

from edge.uplink import rules
from edge.uplink.entities import Ledger, StoredBatch, Window
from edge.uplink.outbox import Outbox
from protos.kit import packing
from protos.topics import MAX_GRPC_BYTES
from protos.v1.uplink_pb2 import (
    PACKING_ZSTD,
    Batch,
    Books,
    Hello,
    Quarantined,
    UplinkMessage,
    UplinkReply,
    Welcome,
)

WELCOME_S = 10.0
READ_AT_ONCE = 64
BOOKS_S = 10.0
"""The books are said no more often, but for a gap."""

Call = grpc.aio.StreamStreamCall[UplinkMessage, UplinkReply]


class Cut(Exception):
    """The stream is over; the message says why. Connect again."""


class Spare(Protocol):
    """What has the stream when results leave it free, such as samples."""

    def begin(self) -> None:
        """A new stream begins."""

    async def next(self) -> UplinkMessage | None:
        """What to send now, small; None: nothing."""

    async def heard(self, reply: UplinkReply) -> None:
        """A reply that is not about results."""


class Stream:
    """One stream: what was sent on it, what is acknowledged, what is deleted."""

    def __init__(
        self,
        device: str,
        outbox: Outbox,
        wake: asyncio.Event,
        take_news: Callable[[], list[UplinkMessage]],
        logger: structlog.typing.FilteringBoundLogger,
        *,
        rate: float,
    ) -> None:
        self.welcomed = False
        self.settled = False
        self.spare: Spare | None = None
        self._device = device
        self._outbox = outbox
        self._wake = wake  # something may be sent: new results, telemetry, room in the window
        self._take_news = take_news
        self._log = logger
        self._rate = rate
        self._paid_until = 0.0  # when the rate has room for the next batch
        self._done = asyncio.Event()  # more is settled than is deleted
        self._window = Window(size=0, sent=0, done=0)
        self._max_bytes = MAX_GRPC_BYTES
        self._packs = False
        self._silent_until = 0.0
        self._said: Books | None = None
        self._said_at = 0.0

    async def run(self, call: Call) -> None:
        """Return never; raise when the stream is over."""
        ledger = self._outbox.ledger
        hello = Hello(device=self._device, epoch=ledger.epoch, books=self._books(ledger))
        await call.write(UplinkMessage(hello=hello))
        try:
            async with asyncio.timeout(WELCOME_S):
                reply = await _read(call)
        except TimeoutError as error:
            raise Cut(f"no welcome within {WELCOME_S:g} s") from error
        if reply.WhichOneof("body") != "welcome":
            raise Cut("the server's first word was not a welcome")
        await self._begin(reply.welcome)
        await _until_one_ends(self._receive(call), self._send(call), self._delete())

    async def _begin(self, welcome: Welcome) -> None:
        resumption = rules.resume(self._outbox.ledger, welcome.watermark)
        if resumption.new_epoch:
            self._log.error(
                "the server knows a later life of this outbox, a new epoch begins; results may be stored twice",
                server_watermark=welcome.watermark,
                last_seq=self._outbox.ledger.last_seq,
            )
            await asyncio.to_thread(self._outbox.begin_epoch)
            raise Cut("a new epoch has to be greeted anew")
        if resumption.forgotten:
            self._log.error("the server has lost results it had acknowledged", at_most=resumption.forgotten)
        await asyncio.to_thread(self._outbox.acknowledge, resumption.after)
        self._window = rules.open_window(welcome.window, resumption.after)
        self._max_bytes = welcome.max_batch_bytes or MAX_GRPC_BYTES
        self._packs = PACKING_ZSTD in welcome.packings
        if self.spare:
            self.spare.begin()
        self.welcomed = True
        self._log.info("uplink streams", watermark=resumption.after, window=self._window.size)

    async def _receive(self, call: Call) -> None:
        while True:
            reply = await _read(call)
            match reply.WhichOneof("body"):
                case "ack":
                    last_seq = self._outbox.ledger.last_seq
                    self._settle(rules.acknowledged(self._window, reply.ack.watermark, last_seq))
                case "quarantined":
                    self._quarantined(reply.quarantined)
                case "delay":
                    loop = asyncio.get_running_loop()
                    self._silent_until = loop.time() + rules.pause_s(reply.delay.milliseconds)
                case "sample_policies" | "sample_answer" if self.spare:
                    await self.spare.heard(reply)
                    self._wake.set()
                case other:
                    # A newer server may say more than this device understands.
                    self._log.debug("reply ignored", kind=other)

    def _quarantined(self, quarantined: Quarantined) -> None:
        self._log.warning(
            "the server set a batch aside", first_seq=quarantined.first_seq, reason=quarantined.reason[:500]
        )
        self._settle(rules.quarantined(self._window, quarantined.first_seq))

    def _settle(self, window: Window) -> None:
        if window.done > self._window.done:
            self.settled = True
            self._done.set()
        self._window = window
        self._wake.set()

    async def _send(self, call: Call) -> None:
        while True:
            self._wake.clear()
            if not await self._send_some(call) and not await self._send_spare(call):
                await self._wake.wait()

    async def _send_some(self, call: Call) -> bool:
        await self._silence()
        await self._tell_news(call)
        await self._say_books(call, at_least_s=BOOKS_S)
        if not self._window.room or self._window.sent >= self._outbox.ledger.last_seq:
            return False
        limit = min(self._window.room, READ_AT_ONCE)
        batches = await asyncio.to_thread(self._outbox.after, self._window.sent, limit)
        for batch in batches:
            await self._pace(call)
            await self._silence()
            if batch.last_seq > self._window.sent:  # else acknowledged meanwhile
                await self._send_batch(call, batch)
        return bool(batches)

    async def _tell_news(self, call: Call) -> None:
        for news in self._take_news():
            await call.write(news)

    async def _pace(self, call: Call) -> None:
        """Keep to the rate; meanwhile, and before each batch, the newest health goes: old results can wait."""
        loop = asyncio.get_running_loop()
        await self._tell_news(call)
        while (left := self._paid_until - loop.time()) > 0:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
            await self._tell_news(call)

    async def _send_spare(self, call: Call) -> bool:
        """One message that is no result, if no result waits to be sent, not even for room in the window."""
        if self.spare is None or self._window.sent < self._outbox.ledger.last_seq:
            return False
        if self._paid_until > asyncio.get_running_loop().time():
            await self._pace(call)
            return True  # meanwhile there may be results
        message = await self.spare.next()
        if message is not None:
            self._pay(message.ByteSize())
            await call.write(message)
        return message is not None

    async def _send_batch(self, call: Call, batch: StoredBatch) -> None:
        if len(batch.payload) > self._max_bytes:
            # Kept, not dropped: one wrong setting of the server must not cost the fleet its results.
            raise Cut(
                f"batch {batch.first_seq} has {len(batch.payload)} bytes, the server takes {self._max_bytes}: "
                "raise the server's limit"
            )
        if rules.follows_gap(self._window, batch):
            await self._say_books(call)
        self._window = rules.send(self._window, batch)
        self._pay(len(batch.payload))
        await call.write(UplinkMessage(batch=_message(batch, packed=self._packs)))

    def _pay(self, size: int) -> None:
        self._paid_until = rules.paid_until(self._paid_until, asyncio.get_running_loop().time(), size, self._rate)

    async def _say_books(self, call: Call, at_least_s: float = 0.0) -> None:
        """Say how the outbox stands, if that has changed and was said as long ago."""
        if asyncio.get_running_loop().time() - self._said_at >= at_least_s:
            said, books = self._said, self._books(self._outbox.ledger)
            if books != said:
                await call.write(UplinkMessage(books=books))

    def _books(self, ledger: Ledger) -> Books:
        self._said_at = asyncio.get_running_loop().time()
        self._said = Books(
            last_seq=ledger.last_seq,
            before=ledger.before,
            dropped=ledger.dropped,
            waiting=ledger.rows,
            acknowledged=ledger.acknowledged,
        )
        return self._said

    async def _silence(self) -> None:
        loop = asyncio.get_running_loop()
        while (left := self._silent_until - loop.time()) > 0:  # noqa: ASYNC110 - the end is a time, and may move
            await asyncio.sleep(left)

    async def _delete(self) -> None:
        # Apart from receiving, so that the acknowledgements that come in during one deletion become one.
        while True:
            await self._done.wait()
            self._done.clear()
            await asyncio.to_thread(self._outbox.acknowledge, self._window.done)


def _message(batch: StoredBatch, *, packed: bool) -> Batch:
    if packed and (payload := packing.pack(batch.payload)) is not None:
        return Batch(first_seq=batch.first_seq, count=batch.count, payload=payload, packing=PACKING_ZSTD)
    return Batch(first_seq=batch.first_seq, count=batch.count, payload=batch.payload)


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
