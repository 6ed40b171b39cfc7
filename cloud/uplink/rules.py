"""What is new in a batch of any kind, and whether it can be stored as results. Pure.

Exactly once rests on two numbers. The *watermark* of a stream is read and moved in the transaction that writes the
rows, so what it covers is never written again, whoever sends it again. A gap above the watermark is legal, since a
device may drop its oldest rows by its declared policy; but only the device may make one. So each batch also says what
its connection handed in *before* it: if that is not committed (a commit failed, and a later one would succeed), the
batch is detached and not taken, else the failed rows would be passed over for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from cloud.foundation.clocks import AHEAD_MS, EARLIEST_MS
from cloud.uplink.entities import (
    DAY_MS,
    MAX_BATCH_BYTES,
    Aside,
    Fate,
    InvalidTruths,
    KnownVersion,
    Placement,
    ReceivedBatch,
    SeveralModels,
    StreamState,
    VersionSummary,
)
from protos.kit.columns import Malformed, Results, decode
from protos.topics import MAX_GRPC_BYTES, NAME, checked_name

LAST_SEQ = 2**62
MOST_ROWS = MAX_GRPC_BYTES // 16
"""A message has no room for more: a batch that says so has no numbers that can be believed."""
DAYS_AHEAD = 3
MAX_TRUTHS = 100_000
MAX_LABEL = 2**16 - 1
BURST_S = 2.0
"""What a device did not send for so long it may send at once."""


def place(stream: StreamState, batch: ReceivedBatch, unreadable: str = "") -> tuple[StreamState, Placement]:
    """The stream after a batch, and which of its rows to store. The watermark never moves back.

    `unreadable` says why the batch cannot be stored (empty: it can): what is new of it is set aside, once, and the
    watermark passes it. Numbers that are no sequence numbers are set aside too, and move nothing.
    """
    if not _numbered(batch):
        reason = f"first_seq {batch.first_seq} with count {batch.count} is no run of sequence numbers"
        return stream, Placement(Fate.QUARANTINED, reason=reason)
    last = batch.first_seq + batch.count - 1
    if last <= stream.watermark:
        return stream, Placement(Fate.DUPLICATE)
    if batch.previous > stream.watermark:
        reason = f"{batch.previous} came before it and is not committed, the watermark is {stream.watermark}"
        return stream, Placement(Fate.DETACHED, reason=reason)
    gap = max(0, batch.first_seq - stream.watermark - 1)
    after = replace(stream, watermark=last, skipped=stream.skipped + gap)
    skip = max(0, stream.watermark + 1 - batch.first_seq)
    if unreadable:
        after = replace(after, set_aside=after.set_aside + batch.count - skip)
        return after, Placement(Fate.QUARANTINED, skip=skip, reason=unreadable)
    return after, Placement(Fate.STORED, skip=skip)


def take_back(stream: StreamState, aside: Aside, unreadable: str = "") -> tuple[StreamState, str]:
    """The stream once rows that were set aside are stored, and why they cannot be (empty: they can).

    The watermark has passed their numbers, and stays. `unreadable` says why their batch cannot be stored.
    """
    if unreadable:
        return stream, unreadable
    if not 0 < aside.first_seq <= aside.last_seq <= stream.watermark or aside.count > stream.set_aside:
        return stream, f"first_seq {aside.first_seq} with count {aside.count} is no run of numbers that were set aside"
    return replace(stream, set_aside=stream.set_aside - aside.count), ""


def handed_in(batch: ReceivedBatch) -> int:
    """`previous` for the next batch of the same connection."""
    return max(batch.previous, batch.first_seq + batch.count - 1) if _numbered(batch) else batch.previous


def _numbered(batch: ReceivedBatch) -> bool:
    """Too many rows are numbered all the same: they are set aside, and the watermark passes them."""
    return 0 < batch.first_seq <= LAST_SEQ and 0 < batch.count <= MOST_ROWS


def read(payload: bytes, count: int) -> Results:
    """The columns of a batch; raises Malformed with the reason if they are not `count` results."""
    check_size(payload)
    return decode(payload, count)


def check_size(payload: bytes) -> None:
    """Raises Malformed if no batch may have so many bytes, of whichever kind."""
    if len(payload) > MAX_BATCH_BYTES:
        raise Malformed(f"{len(payload)} bytes, a batch may have {MAX_BATCH_BYTES}")


def complaint(results: Results, known: KnownVersion | None) -> str:
    """Why these results cannot be stored as answers of the model version they name; empty if they can."""
    says = f"{results.model[:64]!r} {results.version}"
    if known is None:
        return f"model version {says} with manifest {results.manifest[:32].hex()} is not registered here"
    if (results.model, results.version) != (known.model, known.version):
        return f"says {says}, but its manifest is that of {known.model!r} {known.version}"
    highest = int(results.label.max())
    if highest >= known.classes:
        return f"label {highest}, but {says} has {known.classes} classes"
    for what, name in (("source", results.source), ("slot", results.slot)):
        if not NAME.fullmatch(name):
            return f"{what} {name[:64]!r} is not a name"
    return ""


def days_to_make(now_ms: int) -> range:
    """The days, counted from 1970, for which there must be room: today, and some ahead so that midnight finds it."""
    today = now_ms // DAY_MS
    return range(today, today + 1 + DAYS_AHEAD)


def first_kept_day(now_ms: int, days: int) -> int:
    """Results received before this day, counted from 1970, are dropped when they are kept for `days` whole days."""
    return now_ms // DAY_MS - days


def check_truths(device: str, source: str, first_frame: int, labels: list[int]) -> None:
    """Raise InvalidTruths if these cannot be the labels of frames first_frame, first_frame + 1, ... of the source."""
    try:
        checked_name(device, "device")
        checked_name(source, "source")
    except ValueError as error:
        raise InvalidTruths(str(error)) from error
    if not 0 < first_frame <= LAST_SEQ:
        raise InvalidTruths(f"first_frame is {first_frame}: frames are numbered from 1")
    if not 0 < len(labels) <= MAX_TRUTHS:
        raise InvalidTruths(f"{len(labels)} labels: give 1 to {MAX_TRUTHS}")
    wrong = next((label for label in labels if not 0 <= label <= MAX_LABEL), None)
    if wrong is not None:
        raise InvalidTruths(f"label {wrong}: a label is a class index, 0 to {MAX_LABEL}")


def model_to_show(versions: Iterable[VersionSummary], asked: str | None) -> str | None:
    """The model that a summary by version speaks of: the one asked for, else the only one there is (None: none)."""
    if asked is not None:
        return asked
    models = sorted({version.model for version in versions})
    if len(models) > 1:
        raise SeveralModels(f"there are results of several models, name one of them: {', '.join(models)}")
    return models[0] if models else None


class Clock(Enum):
    """How a device's clock stands to ours. One that is behind cannot be told from an outbox that has waited."""

    RIGHT = "right"
    AHEAD = "ahead"
    UNSET = "unset"


def clock_of(captured_us: int, now_ms: int) -> Clock:
    """The clock of a device that says a frame was taken then."""
    if captured_us // 1000 > now_ms + AHEAD_MS:
        return Clock.AHEAD
    return Clock.UNSET if captured_us // 1000 < EARLIEST_MS else Clock.RIGHT


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a device has sent beyond its quota's flow: `debt` as of `at_s`, in rows or bytes; it runs off with time."""

    debt: float = 0.0
    at_s: float = 0.0


def spent(bucket: Bucket, amount: int, per_s: int, now_s: float) -> Bucket:
    """The bucket after `amount` more; per_s 0 is no limit."""
    if not per_s:
        return Bucket(0.0, now_s)
    paid = max(0.0, now_s - bucket.at_s) * per_s
    return Bucket(max(0.0, bucket.debt - paid) + amount, now_s)


def wait_s(bucket: Bucket, per_s: int) -> float:
    """Seconds until the device may go on: until no more is owed than what a burst may be."""
    return max(0.0, bucket.debt / per_s - BURST_S) if per_s else 0.0
