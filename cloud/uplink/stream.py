"""One device's stream while it lasts: a reader that hands in what comes, a writer that answers in its order.

What arrives once comes in lines, one for each kind: each with its own stream in the database, numbers and watermark,
all in one order on the wire. An acknowledgement is written after the commit that it speaks of, never before.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import grpc
import structlog

from cloud.foundation.metrics import DATABASE_ERRORS
from cloud.uplink import auditing, metrics, rules
from cloud.uplink.entities import MAX_BATCH_BYTES, WINDOW, Books, Fate, Opened, Outcome, ReceivedBatch
from cloud.uplink.merge import Merger, first_line
from cloud.uplink.quotas import Quotas
from protos.kit import packing
from protos.kit.kinds import Kind
from protos.topics import MAX_BATCH_ROWS
from protos.v1 import uplink_pb2

MAX_DELAY_MS = 300_000
"""Devices wait no longer for one word."""

OnTelemetry = Callable[[str, uplink_pb2.Telemetry], None]
OnWatched = Callable[[str, uplink_pb2.UplinkMessage], None]
Messages = AsyncIterator[uplink_pb2.UplinkMessage]
Write = Callable[[uplink_pb2.UplinkReply], Awaitable[None]]

log = structlog.get_logger()


class SampleStream(Protocol):
    """The samples of one stream."""

    def take(self, message: uplink_pb2.UplinkMessage) -> bool:
        """Take an offer or a piece; False: the device sends more than it may without an answer."""

    async def run(self) -> None:
        """Tell the device what to sample, and answer it, until cancelled."""


class Ended(Exception):
    """A stream is over, with this gRPC status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told what is not acknowledged, since the next one replaces it."""

    on_telemetry: OnTelemetry
    on_watched: OnWatched | None

    def __call__(self, device: str, message: uplink_pb2.UplinkMessage) -> None:
        """Tell whoever it concerns."""
        if message.HasField("telemetry"):
            self.on_telemetry(device, message.telemetry)
        elif self.on_watched:
            self.on_watched(device, message)


class _Line:
    """One kind on a stream: what was handed in, how far it is committed, whether its device is to be told."""

    def __init__(self, kind: Kind, opened: Opened) -> None:
        self.kind = kind
        self.in_contract = f"KIND_{kind.name}"
        self.stream = opened.stream
        self.previous = self.watermark = opened.watermark
        self.owes_ack = False


class Stream:
    """One device's stream. opened: the kinds that are taken, as they stand in the database; results are among them."""

    def __init__(
        self, device: str, opened: Mapping[Kind, Opened], merger: Merger, write: Write, listeners: Listeners
    ) -> None:
        self._device = device
        self._lines: Mapping[int, _Line] = {kind: _Line(kind, one) for kind, one in opened.items()}
        self._merger = merger
        self._context_write = write
        self._writing = asyncio.Lock()
        self._listeners = listeners
        self.quotas = Quotas()
        self.samples: SampleStream | None = None
        self._unanswered: asyncio.Queue[tuple[_Line, int, asyncio.Future[Outcome]] | None] = asyncio.Queue()
        self._window = asyncio.Semaphore(WINDOW)
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, reason: Ended) -> None:
        """Read no further; acknowledge what was handed in; then end with `reason`."""
        if not self._end.done():
            self._end.set_exception(reason)

    async def write(self, reply: uplink_pb2.UplinkReply) -> None:
        """Send a reply, after those that are being sent: gRPC takes one at a time."""
        async with self._writing:
            await self._context_write(reply)

    async def serve(self, messages: Messages, books: Iterable[uplink_pb2.Books]) -> None:
        """Return when the device has said all and has all its answers. `books`: said with the greeting.

        Raises Ended, NotCommitted.
        """
        await self.write(uplink_pb2.UplinkReply(welcome=self._welcome()))
        reader = asyncio.create_task(self._read(messages, books), name=f"read {self._device}")
        writer = asyncio.create_task(self._answer(), name=f"answer {self._device}")
        beside = [asyncio.create_task(self.samples.run(), name=f"samples {self._device}")] if self.samples else []
        try:
            await asyncio.wait({reader, writer, self._end}, return_when=asyncio.FIRST_COMPLETED)
            if not reader.done():
                reader.cancel()
            self._unanswered.put_nowait(None)
            await writer
            if self._end.done():
                self._end.result()
            await reader
        finally:
            await _stop(reader, writer, *beside, self._end)

    def _welcome(self) -> uplink_pb2.Welcome:
        return uplink_pb2.Welcome(
            watermark=self._lines[Kind.RESULTS].watermark,
            max_batch_bytes=MAX_BATCH_BYTES,
            window=WINDOW,
            packings=[uplink_pb2.PACKING_ZSTD],
            marks=[
                uplink_pb2.Mark(kind=line.in_contract, watermark=line.watermark)
                for line in self._lines.values()
                if line.kind is not Kind.RESULTS
            ],
        )

    async def _read(self, messages: Messages, books: Iterable[uplink_pb2.Books]) -> None:
        for said in books:
            await self._note(said)
        async for message in messages:
            match message.WhichOneof("body"):
                case "batch":
                    await self._hand_in(message.batch)
                case "telemetry" | "drift" | "comparison":
                    await self._tell(message)
                case "books":
                    await self._note(message.books)
                case "sample_offer" | "sample_piece" if self.samples:
                    if not self.samples.take(message):
                        raise Ended(grpc.StatusCode.INVALID_ARGUMENT, "more samples than may be without an answer")
                case "hello":
                    raise Ended(grpc.StatusCode.INVALID_ARGUMENT, "a second Hello: it is the first message only")
                case _:
                    log.debug("message of an unknown kind ignored", device=self._device)
            await self._hold_back(message)

    async def _hold_back(self, message: uplink_pb2.UplinkMessage) -> None:
        """Over its quota a device is told to wait, and until then nothing more is read of its stream."""
        if self.quotas.limited:
            now_s = asyncio.get_running_loop().time()
            rows = min(message.batch.count, MAX_BATCH_ROWS)  # whatever it says, it has no more
            wait_s = self.quotas.spend(self._device, rows, message.ByteSize(), now_s)
            if wait_s > 0:
                delay = uplink_pb2.Delay(milliseconds=min(MAX_DELAY_MS, math.ceil(wait_s * 1000)))
                metrics.DELAYS.labels("quota").inc()
                await self.write(uplink_pb2.UplinkReply(delay=delay))
                await asyncio.sleep(wait_s)

    async def _hand_in(self, message: uplink_pb2.Batch) -> None:
        line = self._lines.get(message.kind)
        if line is None:
            raise Ended(grpc.StatusCode.INVALID_ARGUMENT, f"a batch of kind {message.kind}, which was given no mark")
        batch = ReceivedBatch(
            stream=line.stream,
            device=self._device,
            first_seq=message.first_seq,
            count=message.count,
            payload=_payload(message),
            previous=line.previous,
            kind=line.kind,
        )
        line.previous = rules.handed_in(batch)
        await self._submit(line, batch)

    async def _note(self, said: uplink_pb2.Books) -> None:
        """Hand in what the device says of an outbox: it is kept before the rows of any later batch."""
        line = self._lines.get(said.kind)
        if line is None:
            return
        books = Books(said.last_seq, said.before, said.dropped, said.waiting, said.acknowledged)
        if not auditing.believable(books):
            log.warning("books that cannot be", device=self._device, books=books)
            return
        await self._submit(line, ReceivedBatch(line.stream, self._device, 0, 0, b"", line.previous, books, line.kind))

    async def _submit(self, line: _Line, batch: ReceivedBatch) -> None:
        await self._window.acquire()
        self._unanswered.put_nowait((line, batch.first_seq, await self._merger.submit(batch)))

    async def _tell(self, message: uplink_pb2.UplinkMessage) -> None:
        try:
            await asyncio.to_thread(self._listeners, self._device, message)
        except Exception as error:  # noqa: BLE001 - the next one replaces it: not worth the stream of results
            kind = message.WhichOneof("body")
            DATABASE_ERRORS.labels(kind).inc()
            log.warning("news of a device not taken", device=self._device, kind=kind, error=first_line(error))

    async def _answer(self) -> None:
        while True:
            if self._unanswered.empty():
                await self._acknowledge()
            unanswered = await self._unanswered.get()
            if unanswered is None:
                return await self._acknowledge()
            line, first_seq, outcome = unanswered
            if not outcome.done():
                await self._acknowledge()
            await self._take_in(line, first_seq, await outcome)
            self._window.release()

    async def _take_in(self, line: _Line, first_seq: int, outcome: Outcome) -> None:
        match outcome.fate:
            case Fate.DETACHED:
                what = f"batch {first_seq} of {line.kind}"
                raise Ended(grpc.StatusCode.UNAVAILABLE, f"{what}: {outcome.reason}; connect again")
            case Fate.NOTED:
                return
            case Fate.QUARANTINED:
                said = {"first_seq": first_seq, "reason": outcome.reason}
                log.warning("batch set aside", device=self._device, kind=str(line.kind), **said)
                told = uplink_pb2.Quarantined(first_seq=first_seq, reason=outcome.reason, kind=line.in_contract)
                await self.write(uplink_pb2.UplinkReply(quarantined=told))
        line.watermark = outcome.watermark
        line.owes_ack = True

    async def _acknowledge(self) -> None:
        """One acknowledgement for all of a kind that was committed since the last."""
        for line in self._lines.values():
            if line.owes_ack:
                line.owes_ack = False
                ack = uplink_pb2.Ack(watermark=line.watermark, kind=line.in_contract)
                await self.write(uplink_pb2.UplinkReply(ack=ack))


def _payload(message: uplink_pb2.Batch) -> bytes:
    """As the device encoded it. What cannot be unpacked stays as it is: it is no batch of results, and goes aside."""
    if message.packing != uplink_pb2.PACKING_ZSTD:
        return message.payload
    try:
        return packing.unpack(message.payload, MAX_BATCH_BYTES)
    except packing.NotPacked as error:
        log.warning("batch not unpacked", first_seq=message.first_seq, reason=str(error))
        return message.payload


async def _stop(*running: asyncio.Future[None]) -> None:
    """Cancel what still runs, and take note of how everything ended."""
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
