"""The nouns of the uplink: batches before and after they have sequence numbers, and the outbox's books.

What a batch holds is its outbox's kind: results, events, or intervals of telemetry. All are counted alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class OutboxFailed(Exception):
    """The outbox could not do what was asked and holds what it held before. The message says why; try again later."""


class OutOfOrder(Exception):
    """The server said what it cannot know of this stream. Nothing was changed; connect again."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """`count` results as encoded, which settle the frames of `source` up to `last_frame`.

    Count 0 has no payload: the frames had no result, and only the source's watermark moves. Events and telemetry have
    sources, too: whoever may tell a thing again after a kill numbers it as a sensor numbers its frames.
    """

    count: int
    payload: bytes
    source: str
    last_frame: int


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """Results with the sequence numbers first_seq .. first_seq + count - 1. The payload is as it was appended."""

    first_seq: int
    count: int
    payload: bytes

    @property
    def last_seq(self) -> int:
        """The sequence number of the last result."""
        return self.first_seq + self.count - 1


@dataclass(frozen=True, slots=True)
class Size:
    """How much one stored batch is, without its bytes."""

    last_seq: int
    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The outbox's books. They change in the same transaction as the batches.

    epoch: names this life of the outbox. next_seq: of the next result. acknowledged: the highest sequence number that
    the cloud has stored, by its own word. dropped: results dropped unacknowledged by the policy in this epoch.
    rows, bytes: results held and their payload bytes. watermarks: by source, the last frame that is settled. before:
    numbers up to this one were given in earlier lives, and their results are no longer held.
    """

    epoch: int
    next_seq: int = 1
    acknowledged: int = 0
    dropped: int = 0
    rows: int = 0
    bytes: int = 0
    watermarks: Mapping[str, int] = field(default_factory=dict)
    before: int = 0

    @property
    def last_seq(self) -> int:
        """The sequence number of the last result ever appended; 0: none yet."""
        return self.next_seq - 1


@dataclass(frozen=True, slots=True)
class Depth:
    """How full the outbox is. rows: results not yet acknowledged. dropped: by the policy since the epoch began."""

    rows: int
    bytes: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a stream goes on after the server's welcome.

    after: send what is above it. new_epoch: the server knows a later life of this outbox; begin another. forgotten: at
    most so many results were acknowledged once and are unknown to the server now; they are no longer here.
    """

    after: int
    new_epoch: bool = False
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class Flight:
    """A batch that is on its way; settled once the server has stored it or set it aside."""

    first_seq: int
    last_seq: int
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """What of one stream is on its way. sent: highest sequence number sent. done: every one up to it is settled."""

    size: int
    sent: int
    done: int
    flights: tuple[Flight, ...] = ()

    @property
    def room(self) -> int:
        """How many more batches may be sent now."""
        return max(0, self.size - len(self.flights))
