"""The nouns of samples: policies, offers of frames, what became of them, and the samples themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class InvalidPolicy(ValueError):
    """A policy that no device could follow; the message says what is wrong. Correct it and set it again."""


class UnknownPolicy(Exception):
    """There is no policy of this name."""


class UnknownSample(Exception):
    """There is no such sample (any more)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What devices shall sample. model empty: of any model. selector: labels that a device must have; empty: any.

    below: confidence under which a frame is a sample. disagreement: those that champion and challenger answer
    differently. share: of all frames, by lot. bytes_per_day: a device's budget, by its own day (UTC).
    """

    name: str
    bytes_per_day: int
    model: str = ""
    selector: Mapping[str, str] = field(default_factory=dict)
    below: float = 0.0
    disagreement: bool = False
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A frame that a device has, with the result that it came to."""

    digest: bytes
    size: int
    source: str
    frame: int
    captured_us: int
    model: str
    version: int
    manifest: bytes
    label: int
    confidence: float
    reason: str


@dataclass(frozen=True, slots=True)
class Known:
    """A registered model version, as far as offers are checked against it. shape: of its frames."""

    model: str
    version: int
    classes: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device is told of an offer or a piece: stored, refused (why), or to send from `offset`.

    wrong: all bytes came, and had not the digest that was promised.
    """

    offset: int = 0
    stored: bool = False
    refused: str = ""
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a sample's frame: its number in one life of the device's outbox."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A stored sample. result: None while it has not come, or is no longer kept."""

    id: int
    device: str
    offer: Offer
    received_ms: int
    result: Result | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which samples to list, the newest first: those below the id `before`, at most `limit`. None: any."""

    device: str | None = None
    model: str | None = None
    reason: str | None = None
    source: str | None = None
    frame: int | None = None
    before: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Totals:
    """samples: rows. frames: different ones. bytes: of those."""

    samples: int
    frames: int
    bytes: int
