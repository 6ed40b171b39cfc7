"""What became of every result that a device made, by its own word and by what the database holds. Pure.

A device numbers its results without gaps, and what it holds are always the last numbers it gave. So each number is in
one of these places: not yet sent; passed over, which the device must have said (it dropped it, or gave it in an earlier
life of its outbox); or taken by the cloud, where it is a row, was set aside, or went by retention. A number in none of
them is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from cloud.uplink.entities import Audited, Books, StreamFacts
from cloud.uplink.rules import LAST_SEQ


def audited(device: str, streams: Sequence[StreamFacts], copies: int) -> Audited:
    """The account of a device, its streams in the order in which they began.

    copies: rows beyond the first of the same frame, in all of its streams.
    """
    total = Audited(device)
    for place, facts in enumerate(streams, 1):
        stream = _audited(facts, newest=place == len(streams))
        sums = {name: getattr(total, name) + getattr(stream, name) for name in _COUNTS}
        total = replace(total, **sums)
    said = [stream.said_ms for stream in streams if stream.said_ms is not None]
    return replace(total, doubled=max(total.doubled, copies), said_ms=max(said, default=None))


def believable(books: Books) -> bool:
    """Whether a device's books can be: they add up, and fit into the database."""
    parts = (books.before, books.dropped, books.waiting)
    return books.last_seq <= LAST_SEQ and sum(parts) <= books.last_seq and books.acknowledged <= books.last_seq


def _audited(stream: StreamFacts, *, newest: bool) -> Audited:
    """One stream's account; its device is nameless."""
    state = stream.state
    books = stream.books or Books(state.watermark, dropped=state.skipped)
    unseen = max(0, books.last_seq - state.watermark)
    # A later life of the outbox has begun: what this one held has gone over into it, or with the disk.
    waiting = min(books.waiting, unseen) if newest else 0
    made = max(books.last_seq, state.watermark) - books.before
    passed_over = max(0, state.skipped + unseen - waiting - books.before)
    dropped = min(passed_over, books.dropped)
    taken = state.watermark - state.skipped
    gone = taken - stream.seqs - stream.expired - state.set_aside
    return Audited(
        device="",
        made=made,
        waiting=waiting,
        dropped=dropped,
        sent=made - waiting - dropped,
        stored=stream.rows,
        quarantined=state.set_aside,
        expired=stream.expired,
        lost=passed_over - dropped + max(0, gone),
        doubled=stream.rows - stream.seqs + max(0, -gone),
    )


_COUNTS = [field.name for field in fields(Audited) if field.name not in {"device", "said_ms"}]
