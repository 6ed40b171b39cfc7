"""The connection to the cloud: one stream after the other for as long as the agent runs, and what goes on it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from enum import StrEnum

import grpc.aio
import structlog

from edge.foundation.events import Tell, untold
from edge.uplink import rules
from edge.uplink.entities import OutboxFailed, OutOfOrder
from edge.uplink.lane import Lane
from edge.uplink.outbox import Outbox
from edge.uplink.pace import Pace
from edge.uplink.stream import Cut, Load, Spare, Stream
from protos.kit.keepalive import KeepAlive
from protos.kit.kinds import Kind
from protos.topics import MAX_GRPC_BYTES
from protos.v1.uplink_pb2 import UplinkMessage
from protos.v1.uplink_pb2_grpc import UplinkStub

KEEP_ALIVE = KeepAlive(time_s=10.0, timeout_s=20.0)

log = structlog.get_logger()


class State(StrEnum):
    """Whether results can flow now."""

    STREAMING = "streaming"
    WAITING = "waiting"


class Uplink:
    """One device's connection to the cloud, for as long as `run` runs.

    outbox: of results. beside: the outboxes of other kinds, of which the cloud takes what it understands. rate: most
    bytes a second, from the next connection on; 0: without limit. spare: has the stream when nothing else waits.
    tell: takes what a person should know.
    """

    rate = 0.0

    def __init__(
        self,
        target: str,
        device: str,
        outbox: Outbox,
        chance: Callable[[], float] = random.random,
        keep_alive: KeepAlive = KEEP_ALIVE,
        *,
        beside: Mapping[Kind, Outbox] | None = None,
    ) -> None:
        self._target = target
        self._device = device
        self._outboxes = {Kind.RESULTS: outbox, **(beside or {})}
        self._chance = chance
        self._keep_alive = keep_alive
        self._wake = asyncio.Event()
        self._news: dict[tuple[str, str], UplinkMessage] = {}  # by kind and slot, the newest that is not yet sent
        self._stream: Stream | None = None
        self.spare: Spare | None = None
        self.tell: Tell = untold
        self._log = log.bind(device=device, server=target)

    @property
    def state(self) -> State:
        """Streaming once the server has answered the greeting."""
        return State.STREAMING if self._stream and self._stream.welcomed else State.WAITING

    def takes(self, kind: Kind) -> bool:
        """Whether what the outbox of this kind holds can flow now."""
        return self._stream is not None and self._stream.takes(kind)

    def offer(self, news: UplinkMessage) -> None:
        """Send it when the stream can; a newer one of its kind and slot replaces one not yet sent. Not acknowledged."""
        self._news[_subject(news)] = news
        self._wake.set()

    def nudge(self) -> None:
        """There may be something to send when results leave the stream free. Call it on the loop of `run`."""
        self._wake.set()

    async def run(self) -> None:
        """Connect, stream, connect again, for ever."""
        loop = asyncio.get_running_loop()

        def appended() -> None:
            loop.call_soon_threadsafe(self._wake.set)

        with ExitStack() as listening:
            for outbox in self._outboxes.values():
                listening.callback(outbox.on_append(appended))
            attempt = 0
            while True:
                attempt = await self._connect(attempt)
                await asyncio.sleep(rules.backoff_s(attempt, self._chance()))

    async def _connect(self, attempt: int) -> int:
        """One stream from greeting to end; returns the number of the next attempt."""
        began = asyncio.get_running_loop().time()
        lanes = [Lane(kind, outbox, self._wake, self.tell, self._log) for kind, outbox in self._outboxes.items()]
        load = Load(lanes, self._take_news, self._wake, self.spare)
        self._stream = stream = Stream(self._device, load, Pace(self.rate), self._log)
        try:
            async with grpc.aio.insecure_channel(self._target, options=_options(self._keep_alive)) as channel:
                await stream.run(UplinkStub(channel).Connect())  # type: ignore[no-untyped-call]
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, OutOfOrder, OutboxFailed, Cut) as error:
            self._log.info("uplink waits", why=_brief(error))
        finally:
            self._stream = None
        lasted_s = asyncio.get_running_loop().time() - began
        return rules.next_attempt(attempt, settled=stream.settled, lasted_s=lasted_s)

    def _take_news(self) -> list[UplinkMessage]:
        news, self._news = list(self._news.values()), {}
        return news


def _subject(news: UplinkMessage) -> tuple[str, str]:
    """Its kind, and the slot that it speaks of: what one slot tells must not take another's place."""
    match kind := news.WhichOneof("body"):
        case "drift":
            return kind, news.drift.slot
        case "comparison":
            return kind, news.comparison.slot
        case _:
            return kind or "", ""


def _options(keep_alive: KeepAlive) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", MAX_GRPC_BYTES),
        ("grpc.max_receive_message_length", MAX_GRPC_BYTES),
        # A cable pulled out sends no word: pings find it out, even while nothing is under way.
        *keep_alive.options(),
        ("grpc.http2.max_pings_without_data", 0),
        # Each stream is a new channel, and waits by our own rule: a shared pool would make it inherit another back-off.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _brief(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
