"""One kind on one stream: what of its outbox is on its way, what is acknowledged, what is deleted."""

from __future__ import annotations

import asyncio

import structlog

from edge.foundation.events import Event, Severity, Tell
from edge.uplink import rules
from edge.uplink.entities import OutboxFailed, OutOfOrder, StoredBatch, Window
from edge.uplink.outbox import Outbox
from protos.kit.kinds import Kind
from protos.v1.uplink_pb2 import Books, Line, Quarantined

MOST_TEXT = 400
RETRY_S = 30.0
"""An outbox beside that of results, once it has failed, is asked again after so long."""


class Lane:
    """One kind's share of a stream. wake: set when something may be sent. tell: takes what a person should know.

    Without their outbox there are no results, and the stream is not worth having; an outbox beside it that fails holds
    back its own kind, and no other.

    settled: whether the server has stored anything, or set it aside, since the stream began.
    """

    def __init__(
        self,
        kind: Kind,
        outbox: Outbox,
        wake: asyncio.Event,
        tell: Tell,
        logger: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self.kind = kind
        self.settled = False
        self._outbox = outbox
        self._wake = wake
        self._tell = tell
        self._log = logger.bind(kind=str(kind))
        self._done = asyncio.Event()  # more is settled than is deleted
        self._window = Window(size=0, sent=0, done=0)
        self._said: Books | None = None
        self._said_at = 0.0
        self._rests_until = 0.0

    @property
    def is_taken(self) -> bool:
        """Whether the server takes this kind; until it has said so nothing of it may be sent."""
        return self._window.size > 0

    @property
    def waits(self) -> bool:
        """Whether there is more to send, be there room in the window or not."""
        return self.is_taken and not self._rests and self._window.sent < self._outbox.ledger.last_seq

    @property
    def _rests(self) -> bool:
        return asyncio.get_running_loop().time() < self._rests_until

    @property
    def is_fresh(self) -> bool:
        """Whether what can be sent is no backlog but news."""
        return rules.is_fresh(self._window, self._outbox.ledger.last_seq)

    def line(self) -> Line:
        """How it stands, for the greeting."""
        return Line(kind=self.kind.value, epoch=self._outbox.epoch, books=self.books())

    def books(self) -> Books:
        """How the outbox stands now; it counts as said."""
        ledger = self._outbox.ledger
        self._said_at = asyncio.get_running_loop().time()
        self._said = Books(
            last_seq=ledger.last_seq,
            before=ledger.before,
            dropped=ledger.dropped,
            waiting=ledger.rows,
            acknowledged=ledger.acknowledged,
            kind=self.kind.value,
        )
        return self._said

    def news_of_books(self, at_least_s: float = 0.0) -> Books | None:
        """The books, if they have changed and were said as long ago."""
        if not self.is_taken or asyncio.get_running_loop().time() - self._said_at < at_least_s:
            return None
        said, books = self._said, self.books()
        return books if books != said else None

    async def begin(self, watermark: int, size: int) -> bool:
        """The server takes this kind, knows it up to `watermark`, and lets `size` batches be on their way.

        False: a new epoch has begun, and has to be greeted anew.
        """
        resumption = rules.resume(self._outbox.ledger, watermark)
        if resumption.new_epoch:
            return not await self._begin_epoch(watermark)
        if resumption.forgotten:
            self._complain(
                "uplink.forgotten",
                Severity.ERROR,
                f"the server has lost {self.kind} that it had acknowledged, at most {resumption.forgotten}",
            )
        await self._delete(resumption.after)
        self._window = rules.open_window(size, resumption.after)
        return True

    async def next(self, most: int) -> list[StoredBatch]:
        """At most `most` batches that may be sent now."""
        if not self.waits or not self._window.room:
            return []
        limit = min(self._window.room, most)
        try:
            return await asyncio.to_thread(self._outbox.after, self._window.sent, limit)
        except OutboxFailed as error:
            self._rest(error)
            return []

    def may_send(self, batch: StoredBatch) -> bool:
        """Whether it may be sent still; meanwhile it may have been sent or acknowledged."""
        return batch.last_seq > self._window.sent and self._window.room > 0

    def follows_gap(self, batch: StoredBatch) -> bool:
        """Whether numbers are left out before it: the server must hear why before it comes."""
        return rules.follows_gap(self._window, batch)

    def send(self, batch: StoredBatch) -> None:
        """It goes now."""
        self._window = rules.send(self._window, batch)

    def acknowledged(self, watermark: int) -> None:
        """Every number up to `watermark` is stored. Raises OutOfOrder for what cannot be."""
        self._must_be_taken("acknowledged")
        self._settle(rules.acknowledged(self._window, watermark, self._outbox.ledger.last_seq))

    def quarantined(self, quarantined: Quarantined) -> None:
        """The server has set a batch aside. Raises OutOfOrder if it was never sent."""
        self._must_be_taken("set aside")
        self._settle(rules.quarantined(self._window, quarantined.first_seq))
        reason = quarantined.reason[:MOST_TEXT]
        self._log.warning("the server set a batch aside", first_seq=quarantined.first_seq, reason=reason)
        if self.kind is not Kind.EVENTS:  # else the news of it would be set aside, and so on
            self._tell(
                Event(
                    "uplink.set_aside",
                    f"the server set a batch of {self.kind} aside: {reason}",
                    Severity.WARNING,
                    about=str(self.kind),
                )
            )

    async def delete(self) -> None:
        """Delete what is settled, for ever.

        Apart from receiving, so that the acknowledgements that come in during one deletion become one.
        """
        while True:
            await self._done.wait()
            self._done.clear()
            await self._delete(self._window.done)

    async def _delete(self, through: int) -> None:
        try:
            await asyncio.to_thread(self._outbox.acknowledge, through)
        except OutboxFailed as error:
            self._rest(error)
            asyncio.get_running_loop().call_later(RETRY_S, self._done.set)

    def _rest(self, error: OutboxFailed) -> None:
        """Leave the stream to the others for a while. Raises the error if it is of results."""
        if self.kind is Kind.RESULTS:
            raise error
        text = f"{self.kind} wait, their outbox fails: {error}"
        self._complain("uplink.outbox_failed", Severity.ERROR, text)
        loop = asyncio.get_running_loop()
        self._rests_until = loop.time() + RETRY_S
        loop.call_later(RETRY_S, self._wake.set)

    async def _begin_epoch(self, watermark: int) -> bool:
        """Whether it has begun: if not, nothing is sent of this kind, whose numbers the server knows already."""
        last_seq = self._outbox.ledger.last_seq
        self._complain(
            "uplink.epoch_began",
            Severity.ERROR,
            f"the server knows {self.kind} up to {watermark}, and here {last_seq} is the last: it knows a later life "
            "of this outbox. What is held is sent under a new epoch, and may be stored twice",
        )
        try:
            await asyncio.to_thread(self._outbox.begin_epoch)
        except OutboxFailed as error:
            self._rest(error)
            return False
        return True

    def _complain(self, kind: str, severity: Severity, text: str) -> None:
        self._log.error(text)
        self._tell(Event(kind, text, severity, about=str(self.kind)))

    def _must_be_taken(self, what: str) -> None:
        if not self.is_taken:
            raise OutOfOrder(f"the server {what} {self.kind}, of which none were sent")

    def _settle(self, window: Window) -> None:
        if window.done > self._window.done:
            self.settled = True
            self._done.set()
        self._window = window
        self._wake.set()
