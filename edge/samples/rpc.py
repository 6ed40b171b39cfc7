"""Samples over the uplink's stream: offered by digest, sent in pieces from where the server's bytes end."""

from __future__ import annotations

import structlog

from edge.foundation.threads import finished
from edge.samples import rules
from edge.samples.entities import Kept, SamplesFailed, Upload
from edge.samples.service import Sampler
from edge.samples.store import SampleStore
from protos.v1.samples_pb2 import SampleAnswer, SampleOffer, SamplePiece
from protos.v1.uplink_pb2 import UplinkMessage, UplinkReply

log = structlog.get_logger()


class SampleUploads:
    """What the uplink sends when it has no results to send. Use it on one event loop."""

    def __init__(self, store: SampleStore, sampler: Sampler) -> None:
        self._store = store
        self._sampler = sampler
        self.begin()

    def begin(self) -> None:
        """A new stream: the server knows of no offer on it."""
        self._invited = False
        self._offered = 0
        self._uploads: dict[int, Upload] = {}

    async def next(self) -> UplinkMessage | None:
        """The next message to send; None: there is nothing now. A server that said no policies takes no samples."""
        if not self._invited:
            return None
        try:
            if piece := rules.next_piece(self._uploads):
                self._uploads[piece.id] = rules.sent(self._uploads[piece.id], piece.size)
                data = await finished(self._store.piece, piece.id, piece.offset, piece.size)
                return UplinkMessage(sample_piece=SamplePiece(id=piece.id, offset=piece.offset, data=data))
            if rules.may_offer(self._uploads):
                for kept in await finished(self._store.after, self._offered, 1):
                    return UplinkMessage(sample_offer=self._offer(kept))
        except SamplesFailed as error:
            log.error("samples are not sent on this stream", error=str(error))
            self._invited = False
        return None

    async def heard(self, reply: UplinkReply) -> None:
        """Take the server's policies, or its answer to what was sent."""
        try:
            if reply.HasField("sample_policies"):
                self._invited = True
                await self._sampler.follow(reply.sample_policies)
            elif reply.sample_answer.id in self._uploads:
                await self._answered(reply.sample_answer)
        except SamplesFailed as error:
            log.error("samples do not follow the cloud", error=str(error))

    def _offer(self, kept: Kept) -> SampleOffer:
        self._offered = kept.id
        self._uploads[kept.id] = Upload(kept.id, kept.size)
        offer = SampleOffer.FromString(kept.about)
        offer.id = kept.id
        return offer

    async def _answered(self, answer: SampleAnswer) -> None:
        if not (answer.stored or answer.refused):
            self._uploads[answer.id] = rules.answered(self._uploads[answer.id], answer.offset)
            return
        if answer.refused:
            log.warning("the server refused a sample, it is not kept", sample=answer.id, reason=answer.refused[:500])
        del self._uploads[answer.id]
        await self._sampler.forget(answer.id)
