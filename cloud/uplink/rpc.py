"""The uplink's gRPC service: greets devices, and serves a stream for each until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

import grpc
import structlog
from grpc.aio import ServicerContext

from cloud.foundation.metrics import DATABASE_ERRORS
from cloud.uplink import metrics
from cloud.uplink.entities import Opened
from cloud.uplink.merge import Merger, NotCommitted, first_line
from cloud.uplink.quotas import Quotas
from cloud.uplink.service import Ingest
from cloud.uplink.stream import Ended, Listeners, Messages, OnTelemetry, OnWatched, SampleStream, Stream, Write
from protos.kit.kinds import Kind
from protos.topics import checked_name
from protos.v1 import uplink_pb2, uplink_pb2_grpc

HELLO_S = 10.0
RETRY_MS = 1000

Context = ServicerContext[uplink_pb2.UplinkMessage, uplink_pb2.UplinkReply]

log = structlog.get_logger()


class SampleStreams(Protocol):
    """The samples of all streams."""

    def stream(self, device: str, write: Write) -> SampleStream:
        """Those of a new stream."""


def _stops() -> Ended:
    return Ended(grpc.StatusCode.UNAVAILABLE, "the server stops: connect again")


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
        self._tell = Listeners(on_telemetry, on_watched)
        self._streams: dict[int, Stream] = {}
        self._draining = False
        self._drained = asyncio.Event()
        self.samples: SampleStreams | None = None
        self.quotas = Quotas()

    async def Connect(self, request_iterator: Messages, context: Context) -> None:  # noqa: N802 - the contract's name
        """Serve one stream until the device, a newer stream of it, or a failure ends it."""
        try:
            await self._serve(request_iterator, context)
        except Ended as end:
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
        results = opened[Kind.RESULTS]
        if self._draining:
            raise _stops()
        stream = Stream(hello.device, opened, self._merger, context.write, self._tell)
        stream.quotas = self.quotas
        stream.samples = self.samples.stream(hello.device, stream.write) if self.samples else None
        if (older := self._streams.get(results.stream)) is not None:
            older.end(Ended(grpc.StatusCode.ABORTED, "a newer stream of this device has taken over"))
        self._streams[results.stream] = stream
        log.info("device streams", device=hello.device, epoch=hello.epoch, watermark=results.watermark)
        try:
            with metrics.STREAMS.track_inprogress():
                await stream.serve(messages, _books(hello))
        finally:
            if self._streams.get(results.stream) is stream:
                del self._streams[results.stream]
            self._note_drained()
            log.info("device's stream ended", device=hello.device, epoch=hello.epoch)

    async def _open(self, hello: uplink_pb2.Hello) -> Mapping[Kind, Opened]:
        """What the device has lines of, and is taken here."""
        epochs = {Kind.RESULTS: hello.epoch}
        said: dict[int, int] = {line.kind: line.epoch for line in hello.lines}
        epochs |= {kind: said[kind] for kind in sorted(self._ingest.kinds) if kind in said}
        try:
            return await asyncio.to_thread(
                lambda: {kind: self._ingest.open(hello.device, epoch, kind) for kind, epoch in epochs.items()}
            )
        except Exception as error:  # whatever the trouble is, the device comes again
            DATABASE_ERRORS.labels("open").inc()
            log.error("stream not opened", device=hello.device, error=first_line(error))
            raise NotCommitted("the database does not answer") from error


async def _hello(messages: Messages) -> uplink_pb2.Hello:
    """The first message, checked. Raises Ended."""
    try:
        async with asyncio.timeout(HELLO_S):
            first = await anext(messages, None)
    except TimeoutError:
        raise Ended(grpc.StatusCode.DEADLINE_EXCEEDED, f"no Hello within {HELLO_S:.0f} s") from None
    if first is None or first.WhichOneof("body") != "hello":
        raise Ended(grpc.StatusCode.INVALID_ARGUMENT, "the first message of a stream must be Hello")
    hello = first.hello
    try:
        checked_name(hello.device, "device")
    except ValueError as error:
        raise Ended(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    kinds = [Kind.RESULTS, *(line.kind for line in hello.lines)]
    if len(set(kinds)) < len(kinds):
        raise Ended(grpc.StatusCode.INVALID_ARGUMENT, "lines: each kind has one, and results have none")
    for epoch in (hello.epoch, *(line.epoch for line in hello.lines)):
        if not 0 < epoch < 2**63:
            raise Ended(grpc.StatusCode.INVALID_ARGUMENT, f"epoch {epoch} is not in 1 .. 2**63 - 1")
    return hello


def _books(hello: uplink_pb2.Hello) -> list[uplink_pb2.Books]:
    """What a greeting says of outboxes. A line's kind is that of its books, whatever those say."""
    said = [hello.books] if hello.HasField("books") else []
    for line in hello.lines:
        if line.HasField("books"):
            line.books.kind = line.kind
            said.append(line.books)
    return said
