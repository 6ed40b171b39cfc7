"""Which frames are samples, what the budget allows, and what of them is sent next. Pure.

A lot is drawn by a hash of the frame's number: the same frame is drawn whatever batch it comes in, and whoever asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge.samples.entities import Books, Chosen, Piece, Policy, Reason, Upload
from protos.topics import MAX_SAMPLE_BYTES, MAX_SAMPLE_OFFERS, MAX_SAMPLE_PIECES, SAMPLE_PIECE_BYTES

DAY_MS = 86_400_000
DAYS_KEPT = 32
"""Days whose spending is remembered: a clock that jumps to and fro finds its days again."""


def policy_for(policies: Sequence[Policy], model: str) -> Policy | None:
    """The first policy that fits the model."""
    return next((policy for policy in policies if policy.model in ("", model)), None)


def seed_of(device: str, source: str) -> int:
    """Each source of each device draws lots of its own."""
    return int.from_bytes(hashlib.sha256(f"{device}/{source}".encode()).digest()[:8], "big")


def lots(frame: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each frame, evenly spread: splitmix64 (Steele, Lea, Flood 2014) of seed and number."""
    mixed = frame * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def choose(policy: Policy, confidence: NDArray[np.float32], frame: NDArray[np.uint64], seed: int) -> Chosen:
    """The frames of a batch that the policy wants, the least confident first."""
    low = confidence < policy.below
    wanted = low | (lots(frame, seed) < policy.share) if policy.share else low
    places = np.flatnonzero(wanted)
    places = places[np.argsort(confidence[places], kind="stable")]
    reasons = tuple(Reason.LOW_CONFIDENCE if one else Reason.RANDOM for one in low[places].tolist())
    return Chosen(places, reasons)


def day_of(now_ms: int) -> int:
    """Days since 1970, UTC."""
    return now_ms // DAY_MS


def affordable(policy: Policy, books: Books, day: int, frame_bytes: int, max_waiting: int) -> int:
    """How many frames of this size may be kept now. A frame too large to be sent never is."""
    if frame_bytes > MAX_SAMPLE_BYTES:
        return 0
    left = policy.bytes_per_day - books.spent.get((day, policy.name), 0)
    return max(0, min(left, max_waiting - books.waiting) // frame_bytes)


def spend(books: Books, policy: str, day: int, size: int) -> Books:
    """The books with `size` more bytes kept; a negative size gives back what could not be kept."""
    spent = {**books.spent, (day, policy): books.spent.get((day, policy), 0) + size}
    return Books(books.waiting + size, spent)


def forget(books: Books, size: int) -> Books:
    """The books once a sample is at the cloud. What was spent stays spent."""
    return replace(books, waiting=books.waiting - size)


def forgotten_days(days: Iterable[int], today: int) -> list[int]:
    """Days whose spending need not be remembered: all but the latest ones, and today."""
    return [day for day in sorted(set(days))[:-DAYS_KEPT] if day != today]


def may_offer(uploads: Mapping[int, Upload]) -> bool:
    """Whether one more sample may be offered."""
    return len(uploads) < MAX_SAMPLE_OFFERS


def next_piece(uploads: Mapping[int, Upload]) -> Piece | None:
    """What to send next of the samples that the server wants; None: nothing now."""
    if sum(upload.unanswered for upload in uploads.values()) >= MAX_SAMPLE_PIECES:
        return None
    for upload in uploads.values():
        if upload.sent is not None and upload.sent < upload.size:
            return Piece(upload.id, upload.sent, min(SAMPLE_PIECE_BYTES, upload.size - upload.sent))
    return None


def sent(upload: Upload, size: int) -> Upload:
    """The upload after a piece of `size` bytes more."""
    return replace(upload, sent=(upload.sent or 0) + size, unanswered=upload.unanswered + 1)


def answered(upload: Upload, offset: int) -> Upload:
    """The upload after the server's word that it has all up to `offset`.

    Pieces are answered in order, so only the last answer tells where to go on if something was not taken.
    """
    offset = min(offset, upload.size)
    if upload.sent is None:
        return replace(upload, sent=offset)
    left = max(0, upload.unanswered - 1)
    return replace(upload, unanswered=left, sent=upload.sent if left else offset)
