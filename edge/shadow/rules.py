"""Which frames a challenger answers, too, and whether it still may. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MOST_FRAMES = 512
"""Frames that a challenger is given at once: it works at the lowest priority, and must not seem to hang for that."""

BOUND_US = 20_000.0
"""What these may take when it has a processor for itself."""

GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Chosen:
    """The frames at start .. stop - 1 of a micro-batch, and the credit that is left for the next."""

    start: int
    stop: int
    credit: float


def choose(credit: float, count: int, share: float, most: int, turn: int) -> Chosen:
    """What of a micro-batch of `count` frames a challenger answers that is to answer this share of all.

    credit: frames that it owes. Its debt is never larger than it can pay at once, so that a challenger that is too slow
    answers fewer, not all of some hour at once. turn: how many were chosen before; it moves the place, so that a source
    whose frames repeat with the micro-batches shows others, too.
    """
    owed = credit + share * count
    taken = min(int(owed + 1e-9), count, most)
    start = int((turn * GOLDEN_RATIO % 1) * (count - taken + 1))
    return Chosen(start, start + taken, min(max(0.0, owed - taken), float(most)))


def must_end(champion: bytes, challenger: bytes, *, fits: bool) -> str:
    """Why there is nothing to compare any more, by the digests of the manifests; empty: there is."""
    if champion == challenger:
        return "the challenger serves as the champion now"
    return "" if fits else "the champion takes frames of another size"
