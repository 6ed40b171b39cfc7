"""How consumers read every result at least once: what a reading hands out, and the word that acknowledges it. Pure.

Transactions commit in another order than they begin, so no number given to rows on the way in could tell a consumer
that nothing below it is still to come. A stream can: its rows are committed in the order of their sequence numbers,
each transaction moving the watermark with them. So a consumer has a position in each stream, and what lies between
position and watermark is there, all of it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from cloud.uplink.questions import Found, InvalidQuestion, is_position

MAX_STREAMS = 100
"""Streams that one reading hands out of, at most: the word that acknowledges it stays short."""


class UnknownConsumer(Exception):
    """There is no consumer of this name: create it first."""


class Start(Enum):
    """Where a new consumer begins."""

    EARLIEST = "earliest"  # with the oldest results that are kept
    LATEST = "latest"  # with what is stored after it was created


@dataclass(frozen=True, slots=True)
class Lag:
    """A stream that has more for a consumer: its results behind `seq`, up to `watermark`."""

    stream: int
    seq: int
    watermark: int


@dataclass(frozen=True, slots=True)
class Returned:
    """Results that were stored late, out of quarantine, where a consumer may have passed already.

    They had the numbers first_seq .. last_seq of a stream; up to `seq` the consumer has them.
    """

    stream: int
    first_seq: int
    seq: int
    last_seq: int

    @property
    def lag(self) -> Lag:
        """The same as what follows a position."""
        return Lag(self.stream, self.seq, self.last_seq)


@dataclass(frozen=True, slots=True)
class Reading:
    """Results that follow a consumer's positions, in the order of each stream, and the word that acknowledges them."""

    results: Sequence[Found]
    ack: str


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer and how many sequence numbers it is behind, over all streams."""

    name: str
    created_ms: int
    behind: int


def shares(limit: int, streams: int) -> list[int]:
    """How many results each of the streams may hand out, so that none waits for a flood in another."""
    each, more = divmod(max(limit, streams), streams)
    return [each + 1] * more + [each] * (streams - more)


def read_to(lag: Lag, seqs: Sequence[int], share: int) -> int:
    """The position after handing out these numbers, of which there might have been `share`.

    If there were fewer, nothing else is left up to the watermark: what is missing was never stored, or is dropped.
    """
    return seqs[-1] if len(seqs) == share else lag.watermark


def as_word(positions: Mapping[int, int]) -> str:
    """Positions as an opaque word."""
    return base64.urlsafe_b64encode(json.dumps(list(positions.items()), separators=(",", ":")).encode()).decode()


def as_word_of_returned(to: Mapping[tuple[int, int], int]) -> str:
    """How far a reading came in returned results, each named by its stream and its first number, as an opaque word."""
    entries = {"returned": [[*named, seq] for named, seq in to.items()]}
    return base64.urlsafe_b64encode(json.dumps(entries, separators=(",", ":")).encode()).decode()


def returned_from_word(word: str) -> dict[tuple[int, int], int] | None:
    """What a word says of returned results; None: it speaks of positions. Raises InvalidQuestion."""
    try:
        entries = json.loads(base64.b64decode(word.encode("ascii"), altchars=b"-_", validate=True))
        if not isinstance(entries, dict):
            return None
        to = {(stream, first_seq): seq for stream, first_seq, seq in entries["returned"]}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidQuestion(_NO_ACK) from error
    numbers = [(stream, number) for (stream, first_seq), seq in to.items() for number in (first_seq, seq)]
    if not 0 < len(to) <= MAX_STREAMS or not all(is_position(*pair) for pair in numbers):
        raise InvalidQuestion(_NO_ACK)
    return to


def from_word(word: str) -> dict[int, int]:
    """The positions that a word stands for. Raises InvalidQuestion."""
    try:
        pairs = json.loads(base64.b64decode(word.encode("ascii"), altchars=b"-_", validate=True))
        positions = dict(pairs)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidQuestion(_NO_ACK) from error
    if not 0 < len(positions) <= MAX_STREAMS or not all(is_position(*pair) for pair in positions.items()):
        raise InvalidQuestion(_NO_ACK)
    return positions


_NO_ACK = "this acknowledges nothing: give the `ack` of a reading, unchanged"
