"""The uplink's gRPC service: reads batches, hands them to the merger, acknowledges what is committed.

The service promises one thing: an acknowledgement is written after the commit that it speaks of, never before.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import grpc
import structlog
from grpc.aio import ServicerContext

from cloud.foundation.metrics import DATABASE_ERRORS
from cloud.uplink import auditing, metrics, rules
from cloud.uplink.entities import MAX_BATCH_BYTES, WINDOW, Books, Fate, Opened, Outcome, ReceivedBatch
from cloud.uplink.merge import Merger, NotCommitted, first_line
from cloud.uplink.quotas import Quotas
from cloud.uplink.service import Ingest
from protos.kit import packing
from protos.topics import MAX_BATCH_ROWS, checked_name
from protos.v1 import uplink_pb2, uplink_pb2_grpc

HELLO_S = 10.0
RETRY_MS = 1000
MAX_DELAY_MS = 300_000
"""Devices wait no longer for one word."""

OnTelemetry = Callable[[str, uplink_pb2.Telemetry], None]
OnWatched = Callable[[str, uplink_pb2.UplinkMessage], None]
Messages = AsyncIterator[uplink_pb2.UplinkMessage]
Context = ServicerContext[uplink_pb2.UplinkMessage, uplink_pb2.UplinkReply]
Write = Callable[[uplink_pb2.UplinkReply], Awaitable[None]]

log = structlog.get_logger()


class SampleStream(Protocol):
    """The samples of one stream."""

    def take(self, message: uplink_pb2.UplinkMessage) -> bool:
        """Take an offer or a piece; False: the device sends more than it may without an answer."""

    async def run(self) -> None:
        """Tell the device what to sample, and answer it, until cancelled."""


class SampleStreams(Protocol):
    """The samples of all streams."""

    def stream(self, device: str, write: Write) -> SampleStream:
        """Those of a new stream."""


class _Ended(Exception):
    """A stream is over, with this gRPC status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def _stops() -> _Ended:
    return _Ended(grpc.StatusCode.UNAVAILABLE, "the server stops: connect again")


class UplinkService(uplink_pb2_grpc.UplinkServicer):
    """One `Connect` for each device's stream.

    samples: what takes them; None: nobody does. quotas: how much one device may send.

    `on_telemetry` and `on_watched` (sketches of drift, comparisons) are called in a thread, with the device's id.
    """

    def __init__(
        self, ingest: Ingest, merger: Merger, on_telemetry: OnTelemetry, on_watched: OnWatched | None = None
    ) -> None:
        self._ingest = ingest
        self._merger = merger
        self._tell = _Listeners(on_telemetry, on_watched)
        self._streams: dict[int, _Stream] = {}
        self._draining = False
        self._drained = asyncio.Event()
        self.samples: SampleStreams | None = None
        self.quotas = Quotas()

    async def Connect(self, request_iterator: Messages, context: Context) -> None:  # noqa: N802 - the contract's name
        """Serve one stream until the device, a newer stream of it, or a failure ends it."""
        try:
            await self._serve(request_iterator, context)
        except _Ended as end:
            await context.abort(end.code, str(end))
        except NotCommitted as error:
            metrics.DELAYS.labels("database").inc()
            await context.write(uplink_pb2.UplinkReply(delay=uplink_pb2.Delay(milliseconds=RETRY_MS)))
            await context.abort(
                grpc.StatusCode.UNAVAILABLE,
                f"{error}: send again from the last acknowledgement, after {RETRY_MS} ms",
                (("grpc-retry-pushback-ms", str(RETRY_MS)),),
            )

    def drain(self) -> None:
        """End every stream once what it has handed in is committed and acknowledged; take no new one."""
        self._draining = True
        for stream in self._streams.values():
            stream.end(_stops())
        self._note_drained()

    async def drained(self) -> None:
        """Wait until that is done."""
        await self._drained.wait()

    def _note_drained(self) -> None:
        if self._draining and not self._streams:
            self._drained.set()

    async def _serve(self, messages: Messages, context: Context) -> None:
        hello = await _hello(messages)
        opened = await self._open(hello)
        if self._draining:
            raise _stops()
        stream = _Stream(hello.device, opened, self._merger, context.write, self._tell)
        stream.quotas = self.quotas
        stream.samples = self.samples.stream(hello.device, stream.write) if self.samples else None
        if (older := self._streams.get(opened.stream)) is not None:
            older.end(_Ended(grpc.StatusCode.ABORTED, "a newer stream of this device has taken over"))
        self._streams[opened.stream] = stream
        log.info("device streams", device=hello.device, epoch=hello.epoch, watermark=opened.watermark)
        try:
            with metrics.STREAMS.track_inprogress():
                await stream.serve(messages, hello.books if hello.HasField("books") else None)
        finally:
            if self._streams.get(opened.stream) is stream:
                del self._streams[opened.stream]
            self._note_drained()
            log.info("device's stream ended", device=hello.device, epoch=hello.epoch)

    async def _open(self, hello: uplink_pb2.Hello) -> Opened:
        try:
            return await asyncio.to_thread(self._ingest.open, hello.device, hello.epoch)
        except Exception as error:  # whatever the trouble is, the device comes again
            DATABASE_ERRORS.labels("open").inc()
            log.error("stream not opened", device=hello.device, error=first_line(error))
            raise NotCommitted("the database does not answer") from error


@dataclass(frozen=True, slots=True)
class _Listeners:
    """Who is told what is not acknowledged, since the next one replaces it."""

    on_telemetry: OnTelemetry
    on_watched: OnWatched | None

    def __call__(self, device: str, message: uplink_pb2.UplinkMessage) -> None:
        if message.HasField("telemetry"):
            self.on_telemetry(device, message.telemetry)
        elif self.on_watched:
            self.on_watched(device, message)


class _Stream:
    """One device's stream while it lasts: a reader that hands batches in, a writer that answers in their order."""

    def __init__(self, device: str, opened: Opened, merger: Merger, write: Write, listeners: _Listeners) -> None:
        self._device = device
        self._opened = opened
        self._previous = opened.watermark
        self._merger = merger
        self._context_write = write
        self._writing = asyncio.Lock()
        self._listeners = listeners
        self.quotas = Quotas()
        self.samples: SampleStream | None = None
        self._unanswered: asyncio.Queue[tuple[int, asyncio.Future[Outcome]] | None] = asyncio.Queue()
        self._window = asyncio.Semaphore(WINDOW)
        self._watermark = opened.watermark
        self._owes_ack = False
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, reason: _Ended) -> None:
        """Read no further; acknowledge what was handed in; then end with `reason`."""
        if not self._end.done():
            self._end.set_exception(reason)

    async def write(self, reply: uplink_pb2.UplinkReply) -> None:
        """Send a reply, after those that are being sent: gRPC takes one at a time."""
        async with self._writing:
            await self._context_write(reply)

    async def serve(self, messages: Messages, books: uplink_pb2.Books | None) -> None:
        """Return when the device has said all and has all its answers. `books`: said with the greeting.

        Raises _Ended, NotCommitted.
        """
        await self.write(
            uplink_pb2.UplinkReply(
                welcome=uplink_pb2.Welcome(
                    watermark=self._opened.watermark,
                    max_batch_bytes=MAX_BATCH_BYTES,
                    window=WINDOW,
                    packings=[uplink_pb2.PACKING_ZSTD],
                )
            )
        )
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

    async def _read(self, messages: Messages, books: uplink_pb2.Books | None) -> None:
        if books is not None:
            await self._note(books)
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
                        raise _Ended(grpc.StatusCode.INVALID_ARGUMENT, "more samples than may be without an answer")
                case "hello":
                    raise _Ended(grpc.StatusCode.INVALID_ARGUMENT, "a second Hello: it is the first message only")
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
        batch = ReceivedBatch(
            stream=self._opened.stream,
            device=self._device,
            first_seq=message.first_seq,
            count=message.count,
            payload=_payload(message),
            previous=self._previous,
        )
        self._previous = rules.handed_in(batch)
        await self._submit(batch)

    async def _note(self, said: uplink_pb2.Books) -> None:
        """Hand in what the device says of its outbox: it is kept before the rows of any later batch."""
        books = Books(said.last_seq, said.before, said.dropped, said.waiting, said.acknowledged)
        if not auditing.believable(books):
            log.warning("books that cannot be", device=self._device, books=books)
            return
        await self._submit(ReceivedBatch(self._opened.stream, self._device, 0, 0, b"", self._previous, books))

    async def _submit(self, batch: ReceivedBatch) -> None:
        await self._window.acquire()
        self._unanswered.put_nowait((batch.first_seq, await self._merger.submit(batch)))

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
            first_seq, outcome = unanswered
            if not outcome.done():
                await self._acknowledge()
            await self._take_in(first_seq, await outcome)
            self._window.release()

    async def _take_in(self, first_seq: int, outcome: Outcome) -> None:
        match outcome.fate:
            case Fate.DETACHED:
                raise _Ended(grpc.StatusCode.UNAVAILABLE, f"batch {first_seq}: {outcome.reason}; connect again")
            case Fate.NOTED:
                return
            case Fate.QUARANTINED:
                log.warning("batch set aside", device=self._device, first_seq=first_seq, reason=outcome.reason)
                told = uplink_pb2.Quarantined(first_seq=first_seq, reason=outcome.reason)
                await self.write(uplink_pb2.UplinkReply(quarantined=told))
        self._watermark = outcome.watermark
        self._owes_ack = True

    async def _acknowledge(self) -> None:
        """One acknowledgement for all that was committed since the last."""
        if self._owes_ack:
            self._owes_ack = False
            await self.write(uplink_pb2.UplinkReply(ack=uplink_pb2.Ack(watermark=self._watermark)))


def _payload(message: uplink_pb2.Batch) -> bytes:
    """As the device encoded it. What cannot be unpacked stays as it is: it is no batch of results, and goes aside."""
    if message.packing != uplink_pb2.PACKING_ZSTD:
        return message.payload
    try:
        return packing.unpack(message.payload, MAX_BATCH_BYTES)
    except packing.NotPacked as error:
        log.warning("batch not unpacked", first_seq=message.first_seq, reason=str(error))
        return message.payload


async def _hello(messages: Messages) -> uplink_pb2.Hello:
    """The first message, checked. Raises _Ended."""
    try:
        async with asyncio.timeout(HELLO_S):
            first = await anext(messages, None)
    except TimeoutError:
        raise _Ended(grpc.StatusCode.DEADLINE_EXCEEDED, f"no Hello within {HELLO_S:.0f} s") from None
    if first is None or first.WhichOneof("body") != "hello":
        raise _Ended(grpc.StatusCode.INVALID_ARGUMENT, "the first message of a stream must be Hello")
    hello = first.hello
    try:
        checked_name(hello.device, "device")
    except ValueError as error:
        raise _Ended(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    if not 0 < hello.epoch < 2**63:
        raise _Ended(grpc.StatusCode.INVALID_ARGUMENT, f"epoch {hello.epoch} is not in 1 .. 2**63 - 1")
    return hello


async def _stop(*running: asyncio.Future[None]) -> None:
    """Cancel what still runs, and take note of how everything ended."""
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
