"""The nouns of the uplink: streams, the batches that come over them, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from protos.kit.columns import Results
from protos.kit.kinds import Kind
from protos.topics import MAX_BATCH_ROWS

MAX_BATCH_BYTES = 128 * 1024
"""A full batch has 18 bytes a row, 4,096 rows; this leaves room for the names."""

DAY_MS = 86_400_000

WINDOW = 32
"""Batches that one stream may have unacknowledged."""


class InvalidTruths(ValueError):
    """Truths that cannot be stored; the message says which value is wrong. Correct it and send again."""


class UnknownBatch(Exception):
    """There is no such batch in quarantine (any more)."""


class SeveralModels(Exception):
    """A summary by version needs one model, and there are results of several. Name one of them."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """How far one (device, kind, epoch) has come: all up to `watermark` is dealt with.

    Of that the device dropped `skipped`, and `set_aside` is in quarantine.
    """

    watermark: int
    skipped: int = 0
    set_aside: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream as it stands when its device connects."""

    stream: int
    watermark: int


@dataclass(frozen=True, slots=True)
class Books:
    """What a device says of one life of its outbox.

    last_seq: the highest number given. before: numbers up to it are of earlier lives and not held. dropped: by the
    outbox's policy. waiting: held; these are the last numbers given. acknowledged: the highest watermark it was told.
    """

    last_seq: int
    before: int = 0
    dropped: int = 0
    waiting: int = 0
    acknowledged: int = 0


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """A batch as it came: sequence numbers first_seq .. first_seq + count - 1, `payload` encoded as its kind is.

    `previous` is the highest sequence number that the same connection handed in before, or was welcomed with. With
    `books` it is no batch but what the device says between two; it has no rows.
    """

    stream: int
    device: str
    first_seq: int
    count: int
    payload: bytes
    previous: int
    books: Books | None = None
    kind: Kind = Kind.RESULTS

    @property
    def rows(self) -> int:
        """Rows that it can have: `count` is the device's word, and may be any 32-bit number."""
        return min(self.count, MAX_BATCH_ROWS)


class Fate(Enum):
    """What becomes of a batch."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    NOTED = "noted"  # books, not rows
    DETACHED = "detached"  # not taken: its connection must start again from the watermark


@dataclass(frozen=True, slots=True)
class Placement:
    """Which rows of a batch are new: all but the first `skip`. `reason` speaks of what is not STORED."""

    fate: Fate
    skip: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that are new in a batch, from `first_seq` on; source and version by their integer names."""

    stream: int
    first_seq: int
    source: int
    version: int
    results: Results


@dataclass(frozen=True, slots=True)
class Outcome:
    """A batch's fate once the transaction is committed, and the stream's watermark after it."""

    fate: Fate
    watermark: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A registered model version, as far as results are checked against it."""

    model: str
    version: int
    classes: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What was new in a batch that was set aside, without the batch's bytes; `size` is their number."""

    id: int
    device: str
    kind: Kind
    epoch: int
    first_seq: int
    count: int
    reason: str
    size: int
    received_ms: int


@dataclass(frozen=True, slots=True)
class Aside:
    """A batch in quarantine with its bytes: rows first_seq .. first_seq + count - 1, behind `skip` that are not new."""

    id: int
    stream: int
    device: str
    kind: Kind
    first_seq: int
    count: int
    skip: int
    payload: bytes
    received_ms: int

    @property
    def last_seq(self) -> int:
        """The number of its last row."""
        return self.first_seq + self.count - 1


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of a batch in quarantine: so many of its rows are stored, or why none can be (empty: they are)."""

    id: int
    stored: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """Results of one model version. `accuracy` is the share of right answers among those with a known truth."""

    model: str
    version: int
    results: int
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """The database's account of frames, whichever model answered.

    sent: frames with a known truth. stored: those of them that have a result. duplicated: result rows beyond the first
    of the same frame by the same model. results_total: all rows. skipped: sequence numbers that devices dropped by
    their own policy.
    """

    sent: int
    stored: int
    duplicated: int
    results_total: int
    quarantined: int
    skipped: int

    @property
    def lost(self) -> int:
        """Frames with a known truth and no result."""
        return self.sent - self.stored


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What is known of one stream. books: what its device said last, at `said_ms`; None: it never said anything.

    rows: those there are. seqs: different sequence numbers of those that are not above the watermark.
    """

    state: StreamState
    expired: int = 0
    rows: int = 0
    seqs: int = 0
    books: Books | None = None
    said_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Audited:
    """What a device says it made and sent of one kind, and what the database holds of it.

    made: results (events, intervals) that were given a number. Of these the device still holds those waiting, and its
    outbox's policy dropped some; the rest was sent. stored: rows. quarantined: set aside. expired: dropped by
    retention. lost: sent, and none of these. doubled: rows beyond the first of a frame or number. said_ms: when the
    device last said how its outbox stands, None: never, and all is by the database's own numbers.
    """

    device: str
    made: int = 0
    waiting: int = 0
    dropped: int = 0
    sent: int = 0
    stored: int = 0
    quarantined: int = 0
    expired: int = 0
    lost: int = 0
    doubled: int = 0
    said_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """All counts, and by version the results of one model."""

    counts: Counts
    model: str | None
    accuracy: Mapping[int, float]
    results_per_version: Mapping[int, int]
