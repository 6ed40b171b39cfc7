"""Samples on a device's stream: policies down, offers and pieces up, each answered in its turn.

A sample's work waits in a queue of its own: whatever disk or database do, the results on the same stream go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from cloud.samples.entities import Answer, Offer, Policy
from cloud.samples.service import Samples
from protos.topics import MAX_SAMPLE_OFFERS, MAX_SAMPLE_PIECES
from protos.v1.samples_pb2 import SampleAnswer, SampleOffer, SamplePiece, SamplePolicies, SamplePolicy
from protos.v1.uplink_pb2 import UplinkMessage, UplinkReply

POLICY_S = 2.0
RETRY_S = 5.0

Write = Callable[[UplinkReply], Awaitable[None]]

T = TypeVar("T")

log = structlog.get_logger()


class SampleStreams:
    """Samples of all streams of this process."""

    def __init__(self, samples: Samples, policy_s: float = POLICY_S) -> None:
        self._samples = samples
        self._policy_s = policy_s
        self._streams: set[SampleStream] = set()

    async def run(self) -> None:
        """Tell devices of policies that change, for ever; the policies are looked at every `policy_s`."""
        while True:
            await asyncio.sleep(self._policy_s)
            if streams := tuple(self._streams):
                await self._tell(streams)

    def stream(self, device: str, write: Write) -> SampleStream:
        """Samples of one stream, whose replies `write` sends."""
        return SampleStream(device, write, self._samples, self._streams)

    async def _tell(self, streams: tuple[SampleStream, ...]) -> None:
        try:
            found = await asyncio.to_thread(self._samples.followed_by, [stream.device for stream in streams])
        except Exception:
            log.exception("policies for samples not read")
            return
        for stream in streams:
            stream.follow(found[stream.device])


class SampleStream:
    """One device's samples while its stream lasts."""

    def __init__(self, device: str, write: Write, samples: Samples, streams: set[SampleStream]) -> None:
        self.device = device
        self._write = write
        self._samples = samples
        self._streams = streams
        self._inbox: asyncio.Queue[UplinkMessage | None] = asyncio.Queue()
        self._offers: dict[int, Offer] = {}
        self._again: set[int] = set()  # offers whose bytes had another digest once
        self._policies: tuple[Policy, ...] | None = None
        self._told: tuple[Policy, ...] | None = None

    def take(self, message: UplinkMessage) -> bool:
        """Queue an offer or a piece; False: the device sends more than it may without an answer."""
        if self._inbox.qsize() > MAX_SAMPLE_OFFERS + MAX_SAMPLE_PIECES:
            return False
        self._inbox.put_nowait(message)
        return True

    def follow(self, policies: tuple[Policy, ...]) -> None:
        """Tell the device, if it was told otherwise before."""
        if policies != self._policies:
            self._policies = policies
            self._inbox.put_nowait(None)

    async def run(self) -> None:
        """Tell and answer, until cancelled."""
        self._streams.add(self)
        try:
            self.follow((await self._surely(lambda: self._samples.followed_by([self.device])))[self.device])
            while True:
                message = await self._inbox.get()
                if message is None:
                    await self._tell()
                elif message.HasField("sample_offer"):
                    await self._offered(message.sample_offer)
                else:
                    await self._piece(message.sample_piece)
        finally:
            self._streams.discard(self)

    async def _tell(self) -> None:
        if self._policies is not None and self._policies != self._told:
            self._told = self._policies
            await self._write(UplinkReply(sample_policies=_message(self._policies)))

    async def _offered(self, message: SampleOffer) -> None:
        offer = _offer(message)
        if len(self._offers) >= MAX_SAMPLE_OFFERS:
            answer = Answer(refused=f"{len(self._offers)} samples are on their way already")
        else:
            answer = await self._surely(lambda: self._samples.offered(self.device, offer, _now_ms()))
        self._offers[message.id] = offer
        await self._answer(message.id, answer)

    async def _piece(self, piece: SamplePiece) -> None:
        offer = self._offers.get(piece.id)
        if offer is None:
            return await self._answer(piece.id, Answer(refused="it was not offered on this stream"))
        answer = await self._surely(
            lambda: self._samples.piece(self.device, offer, piece.offset, piece.data, _now_ms())
        )
        if answer.wrong:
            if piece.id in self._again:
                answer = Answer(refused="its bytes have not the digest that was promised, twice")
            self._again.add(piece.id)
        return await self._answer(piece.id, answer)

    async def _answer(self, number: int, answer: Answer) -> None:
        if answer.stored or answer.refused:
            self._offers.pop(number, None)
            self._again.discard(number)
        if answer.refused:
            log.warning("sample refused", device=self.device, reason=answer.refused)
        told = SampleAnswer(id=number, offset=answer.offset, stored=answer.stored, refused=answer.refused)
        await self._write(UplinkReply(sample_answer=told))

    async def _surely(self, work: Callable[[], T]) -> T:
        """Do it in a thread, as often as it takes: meanwhile this stream's samples wait, and nothing else."""
        while True:
            try:
                return await asyncio.to_thread(work)
            except Exception as error:  # noqa: BLE001 - whatever the trouble is, the device keeps the sample
                log.error("sample not stored yet", device=self.device, error=f"{type(error).__name__}: {error}"[:300])
                await asyncio.sleep(RETRY_S)


def _message(policies: tuple[Policy, ...]) -> SamplePolicies:
    return SamplePolicies(
        policies=[
            SamplePolicy(
                name=one.name,
                model=one.model,
                below=one.below,
                disagreement=one.disagreement,
                share=one.share,
                bytes_per_day=one.bytes_per_day,
            )
            for one in policies
        ]
    )


def _offer(message: SampleOffer) -> Offer:
    return Offer(
        digest=message.digest,
        size=message.size,
        source=message.source,
        frame=message.frame,
        captured_us=message.captured_us,
        model=message.model,
        version=message.version,
        manifest=message.manifest,
        label=message.label,
        confidence=message.confidence,
        reason=message.reason,
    )


def _now_ms() -> int:
    return int(time.time() * 1000)
