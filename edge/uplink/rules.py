"""What enters the outbox, what leaves it first, and how a stream goes on. Pure.

Exactly once rests on the sequence numbers: they only rise, a batch keeps its own for ever, and what the server has
committed is a watermark. A gap in them is what the policy dropped; the server accepts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from edge.uplink.entities import Flight, Ledger, NewBatch, OutOfOrder, Resumption, Size, StoredBatch, Window

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
LONGEST_PAUSE_S = 300.0
"""A server may ask for silence, but not make a device fall silent for days by one wrong number."""

MAX_WINDOW = 1024
FRESH = 8
"""So few are news of this moment; more are a backlog."""


def number(ledger: Ledger, batches: Sequence[NewBatch]) -> tuple[Ledger, list[StoredBatch]]:
    """Give sequence numbers to what is new. A batch at or below its source's watermark was appended before: skipped."""
    stored: list[StoredBatch] = []
    watermarks = dict(ledger.watermarks)
    next_seq = ledger.next_seq
    for batch in batches:
        if batch.last_frame <= watermarks.get(batch.source, 0):
            continue
        watermarks[batch.source] = batch.last_frame
        if batch.count:
            stored.append(StoredBatch(next_seq, batch.count, batch.payload))
            next_seq += batch.count
    size = sum(len(batch.payload) for batch in stored)
    rows = ledger.rows + next_seq - ledger.next_seq
    return replace(ledger, next_seq=next_seq, rows=rows, bytes=ledger.bytes + size, watermarks=watermarks), stored


def drop_oldest(ledger: Ledger, oldest_first: Iterable[Size], max_bytes: int) -> tuple[Ledger, int]:
    """The policy when the outbox is over its bound: the oldest batches go, whole, until the rest fits, counted.

    Returns the books and the sequence number up to which batches are dropped (0: none). `oldest_first` is read no
    further than needed.
    """
    rows, size, dropped, through = ledger.rows, ledger.bytes, ledger.dropped, 0
    waiting = iter(oldest_first)
    while size > max_bytes and (oldest := next(waiting, None)) is not None:
        rows, size = rows - oldest.count, size - oldest.bytes
        dropped, through = dropped + oldest.count, oldest.last_seq
    return replace(ledger, rows=rows, bytes=size, dropped=dropped), through


def acknowledge(ledger: Ledger, watermark: int, gone: Iterable[Size]) -> Ledger:
    """The books once the server has said that all up to `watermark` is stored, and the batches `gone` are deleted.

    Raises OutOfOrder for a watermark above all that was ever appended.
    """
    if watermark > ledger.last_seq:
        raise OutOfOrder(f"watermark {watermark} is above {ledger.last_seq}, the last sequence number given")
    rows, size = ledger.rows, ledger.bytes
    for batch in gone:
        rows, size = rows - batch.count, size - batch.bytes
    return replace(ledger, rows=rows, bytes=size, acknowledged=max(ledger.acknowledged, watermark))


def begin_epoch(ledger: Ledger, epoch: int) -> Ledger:
    """The books of a new life that keeps what is held. Sequence numbers go on: to the server they begin with a gap."""
    return replace(ledger, epoch=epoch, acknowledged=0, dropped=0, before=ledger.last_seq - ledger.rows)


def resume(ledger: Ledger, watermark: int) -> Resumption:
    """How to go on when the server has committed up to `watermark` of this epoch.

    Beyond the last sequence number ever given here, the numbers were given by another life of this outbox (it was put
    back from a copy): to go on with them would have the server take new results for old ones. So a new epoch begins and
    all that is held is sent in it. What the other life had already delivered is then doubled, which the cloud can see
    and mend; lost results it could not.
    Behind what was acknowledged and deleted, the server has forgotten (put back from a copy): what is held is sent.
    """
    if watermark > ledger.last_seq:
        return Resumption(after=0, new_epoch=True)
    return Resumption(after=watermark, forgotten=max(0, ledger.acknowledged - watermark))


def follows_gap(window: Window, batch: StoredBatch) -> bool:
    """Whether numbers are left out between what was sent and this batch: the cloud must hear why before it comes."""
    return batch.first_seq > window.sent + 1


def open_window(size: int, watermark: int) -> Window:
    """A stream's window after the welcome. A server that names no size gets one batch at a time."""
    return Window(size=min(max(size, 1), MAX_WINDOW), sent=watermark, done=watermark)


def send(window: Window, batch: StoredBatch) -> Window:
    """The window with one more batch on its way."""
    if not window.room or batch.last_seq <= window.sent:
        raise OutOfOrder(f"batch {batch.first_seq} cannot be sent after {window.sent} with room for {window.room}")
    return replace(window, sent=batch.last_seq, flights=(*window.flights, Flight(batch.first_seq, batch.last_seq)))


def acknowledged(window: Window, watermark: int, last_seq: int) -> Window:
    """The window after an acknowledgement, `last_seq` being the last sequence number ever given.

    It may be above what this stream has sent: the server may still have been busy with an earlier stream's batches when
    it said welcome. Raises OutOfOrder for what cannot have been sent: nothing may be deleted for that.
    """
    if watermark > last_seq:
        raise OutOfOrder(f"the server acknowledged {watermark}, but {last_seq} is the last there is")
    flights = tuple(flight for flight in window.flights if flight.last_seq > watermark)
    done, sent = max(window.done, watermark), max(window.sent, watermark)
    return _advanced(replace(window, done=done, sent=sent, flights=flights))


def quarantined(window: Window, first_seq: int) -> Window:
    """The window after the server has set a batch aside: it counts as done. Raises OutOfOrder if it was never sent."""
    if first_seq > window.sent:
        raise OutOfOrder(f"the server set batch {first_seq} aside, but only {window.sent} was sent")
    flights = tuple(
        replace(flight, settled=True) if flight.first_seq == first_seq else flight for flight in window.flights
    )
    return _advanced(replace(window, flights=flights))


def is_fresh(window: Window, last_seq: int) -> bool:
    """Whether what may be sent is news of this moment, which the rate does not hold back, `last_seq` being the last."""
    return window.room > 0 and 0 < last_seq - window.sent <= FRESH


def paid_until(before_s: float, now_s: float, size: int, rate: float) -> float:
    """When, on the same clock, the next batch may go after one of `size` bytes went now, at `rate` bytes a second."""
    return max(before_s, now_s) + size / rate if rate else now_s


def backoff_s(attempt: int, chance: float) -> float:
    """Seconds before connection `attempt` (from 0): capped exponential backoff, full jitter by `chance` in [0, 1)."""
    return chance * min(LONGEST_DELAY_S, FIRST_DELAY_S * float(2 ** min(attempt, 16)))


def next_attempt(attempt: int, *, settled: bool, lasted_s: float) -> int:
    """The number of the next attempt: from 0 again after a stream that settled something or held for long.

    A welcome alone is no success: a server that falls over at our first batch must not be asked without a break.
    """
    return 0 if settled or lasted_s >= LONGEST_DELAY_S else attempt + 1


def pause_s(milliseconds: int) -> float:
    """How long to send nothing when the server asks for it."""
    return min(milliseconds / 1000, LONGEST_PAUSE_S)


def _advanced(window: Window) -> Window:
    """Settled batches leave at the front, and `done` passes them."""
    leaving = list(takewhile(lambda flight: flight.settled, window.flights))
    done = max([window.done, *(flight.last_seq for flight in leaving)])
    return replace(window, done=done, flights=window.flights[len(leaving) :])
