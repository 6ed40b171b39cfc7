"""What can be asked about results, and the answers. Pure: how pages follow each other, what histograms tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from cloud.foundation import cursors
from cloud.foundation.cursors import LARGEST, LARGEST_ID
from cloud.uplink.aggregates import LATENCY_EDGES_US

MAX_PAGE = 1_000
MAX_BUCKETS = 10_000


class InvalidQuestion(ValueError):
    """What was asked cannot be answered; the message says what to ask instead."""


def must_be_askable(**names: str | None) -> None:
    """Raises InvalidQuestion for a name that PostgreSQL cannot even be asked for."""
    for what, name in names.items():
        if name is not None and "\0" in name:
            raise InvalidQuestion(f"{what} {name[:64]!r} is not a name")


@dataclass(frozen=True, slots=True)
class Which:
    """Results that are meant; None: any. Times are of the receipt by the cloud's clock: from_ms <= it < to_ms."""

    device: str | None = None
    source: str | None = None
    model: str | None = None
    version: int | None = None
    label: int | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    min_confidence: float | None = None
    max_confidence: float | None = None
    slot: str | None = None
    frame: int | None = None

    def __post_init__(self) -> None:
        """Raises InvalidQuestion for a name that PostgreSQL cannot even be asked for, and for a frame of no source."""
        if self.frame is not None and (self.device is None or self.source is None):
            raise InvalidQuestion("each source numbers its own frames: say device and source with the frame")
        must_be_askable(device=self.device, source=self.source, model=self.model, slot=self.slot)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the key of its last result."""

    received_ms: int
    stream: int
    seq: int


@dataclass(frozen=True, slots=True)
class Row:
    """A result as it is stored, by the integer names of its stream, source and version."""

    stream: int
    seq: int
    source: int
    frame: int
    version: int
    label: int
    confidence: float
    latency_us: int
    captured_us: int
    received_ms: int

    @property
    def place(self) -> Place:
        """Its key in the order of receipt."""
        return Place(self.received_ms, self.stream, self.seq)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A frame that its device sent: the id of the sample, and the SHA-256 of the frame in hexadecimal digits."""

    id: int
    digest: str


@dataclass(frozen=True, slots=True)
class Found:
    """A result with its names. `captured_us` is by the device's clock, `received_ms` by the cloud's.

    sample: its frame, None: the device sent no sample of it, or not yet.
    """

    device: str
    epoch: int
    seq: int
    source: str
    frame: int
    model: str
    version: int
    slot: str
    label: int
    confidence: float
    latency_us: int
    captured_us: int
    received_ms: int
    sample: Sampled | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some results, and where to go on; None: there are no more."""

    results: Sequence[Found]
    after: Place | None


class Bucket(Enum):
    """How long one entry of the account is, in minutes."""

    MINUTE = 1
    HOUR = 60
    DAY = 1440


class Group(Enum):
    """By what the account is told apart, besides time."""

    DEVICE = "device"
    VERSION = "version"
    LABEL = "label"
    SLOT = "slot"


@dataclass(frozen=True, slots=True)
class Account:
    """What there was in one bucket, which begins at `begin_ms`. What was not asked to be told apart is None.

    latencies, confidences: the histograms' counts, by the bins of `aggregates.py`; empty where labels are told apart.
    """

    begin_ms: int
    device: str | None
    model: str | None
    version: int | None
    label: int | None
    results: int
    confidence: float
    latency_us: float | None = None
    latencies: Sequence[int] = ()
    confidences: Sequence[int] = ()
    slot: str | None = None


def as_cursor(place: Place) -> str:
    """A place as an opaque word for URLs."""
    return cursors.as_cursor((place.received_ms, place.stream, place.seq))


def from_cursor(cursor: str) -> Place:
    """The place that a word stands for. Raises InvalidQuestion."""
    try:
        return Place(*cursors.from_cursor(cursor, (LARGEST, LARGEST_ID, LARGEST)))
    except ValueError as error:
        raise InvalidQuestion(str(error)) from error


def is_position(stream: object, seq: object) -> bool:
    """Whether both fit into their columns."""
    return cursors.is_below(LARGEST_ID, stream) and cursors.is_below(LARGEST, seq)


def latency_quantile_us(counts: Sequence[int], q: float) -> float | None:
    """The latency that a share `q` of the results does not exceed, by the histogram: linear within a bin; None: none.

    A bin's upper edge is twice its lower one: what this tells is within that factor of the truth, mostly much closer.
    """
    left = q * sum(counts)
    if not left:
        return None
    edges = (0, *LATENCY_EDGES_US, 2 * LATENCY_EDGES_US[-1])
    for lower, upper, count in zip(edges, edges[1:], counts, strict=True):
        if count and left <= count:
            return float(lower + (upper - lower) * left / count)
        left -= count
    return float(edges[-1])
