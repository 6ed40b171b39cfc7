"""How far what a model sees and says is from its reference: pure, and without a library, since devices have none.

PSI says how large a difference is, the tests whether chance explains it: with many frames chance explains next to
nothing, with few it explains much, so an alarm needs both. Frames of one camera resemble each other, which no test here
knows of: windows must be long enough for a device's scenes to change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protos.v1.sketches_pb2 import ChannelSketch, Sketch

PSEUDO = 0.5
"""Counted into each bin beside what was seen: an empty bin is rare, not impossible."""

LEAST_SPREAD = 1.0
"""Grey levels: frames that are all alike in the reference must not make a shift of half a level an alarm."""

SURE = 3.0
"""Standard errors by which a shift must be past its threshold: few frames are looked at in a short window."""

TERMS = 100
ROUNDS = 1000
PRECISE = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """Of what was seen in `frames` frames from a reference. psi: 0 is none; p: how likely chance alone makes as much.

    input_shift: of the mean pixel of the `looked_at` frames, in standard deviations of the reference's frames.
    """

    frames: int
    labels_psi: float
    labels_p: float
    confidences_psi: float
    confidences_p: float
    input_shift: float
    looked_at: int = 0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on a difference is an alarm: PSI at least `psi` with p below `p`, or a shift of at least `shift`."""

    psi: float = 0.2
    p: float = 0.001
    shift: float = 1.0


def difference(reference: Sketch, seen: Sketch) -> Difference:
    """Labels by PSI and the chi-squared test, confidences by PSI and the Kolmogorov-Smirnov test, pixels by means."""
    return Difference(
        frames=seen.frames,
        labels_psi=psi(reference.labels, seen.labels),
        labels_p=chi_squared(reference.labels, seen.labels),
        confidences_psi=psi(reference.confidences, seen.confidences),
        confidences_p=kolmogorov_smirnov(reference.confidences, seen.confidences),
        input_shift=_input_shift(reference, seen),
        looked_at=seen.looked_at,
    )


def alarm(found: Difference, thresholds: Thresholds) -> str:
    """What is past its threshold, for people; empty: nothing."""
    past = [
        f"{what} differ (PSI {size:.2f}, p {p:.1g})"
        for what, size, p in (
            ("labels", found.labels_psi, found.labels_p),
            ("confidences", found.confidences_psi, found.confidences_p),
        )
        if size >= thresholds.psi and p < thresholds.p
    ]
    if found.looked_at and found.input_shift - SURE / math.sqrt(found.looked_at) >= thresholds.shift:
        past.append(f"pixels shifted by {found.input_shift:.1f} standard deviations")
    return ", ".join(past)


def psi(reference: Sequence[int], seen: Sequence[int]) -> float:
    """Population stability index: sum of (q - p) ln(q / p) over the bins' shares; 0 where one side saw nothing."""
    before, after = _aligned(reference, seen)
    if not before.sum() or not after.sum():
        return 0.0
    p, q = _shares(before), _shares(after)
    return float(((q - p) * np.log(q / p)).sum())


def chi_squared(reference: Sequence[int], seen: Sequence[int]) -> float:
    """p of the chi-squared test that two samples of counts come from one distribution; 1 where one is empty."""
    before, after = _aligned(reference, seen)
    used = before + after > 0
    if not before.sum() or not after.sum() or used.sum() < 2:  # noqa: PLR2004 - one bin can only agree
        return 1.0
    ratio = math.sqrt(before.sum() / after.sum())
    terms = (after[used] * ratio - before[used] / ratio) ** 2 / (before + after)[used]
    return upper_gamma((int(used.sum()) - 1) / 2, float(terms.sum()) / 2)


def kolmogorov_smirnov(reference: Sequence[int], seen: Sequence[int]) -> float:
    """p of the two-sample Kolmogorov-Smirnov test on binned values; bins make it cautious. 1 where one is empty.

    Asymptotic, with Stephens' correction (Numerical Recipes, 14.3).
    """
    before, after = _aligned(reference, seen)
    if not before.sum() or not after.sum():
        return 1.0
    distance = float(np.abs(before.cumsum() / before.sum() - after.cumsum() / after.sum()).max())
    root = math.sqrt(before.sum() * after.sum() / (before.sum() + after.sum()))
    return kolmogorov((root + 0.12 + 0.11 / root) * distance)


def kolmogorov(x: float) -> float:
    """Share of Kolmogorov's distribution above x."""
    if x < 0.2:  # noqa: PLR2004 - there the series needs more terms than 1 - 1e-12 is worth
        return 1.0
    terms = ((1 if term % 2 else -1) * math.exp(-2 * (term * x) ** 2) for term in range(1, TERMS))
    return min(1.0, max(0.0, 2 * sum(terms)))


def upper_gamma(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function Q(a, x), a above 0 (Numerical Recipes, 6.2)."""
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    found = 1 - scale * _series(a, x) if x < a + 1 else scale * _fraction(a, x)
    return min(1.0, max(0.0, found))


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    for step in range(1, ROUNDS):
        term *= x / (a + step)
        total += term
        if term < total * PRECISE:
            break
    return total


def _fraction(a: float, x: float) -> float:
    """Lentz's method; its terms are positive for x above a + 1."""
    b = x + 1 - a
    c, d = math.inf, 1 / b
    total = d
    for step in range(1, ROUNDS):
        factor = step * (a - step)
        b += 2
        d = 1 / (b + factor * d)
        c = b + factor / c
        total *= c * d
        if abs(c * d - 1) < PRECISE:
            break
    return total


def _input_shift(reference: Sketch, seen: Sketch) -> float:
    if not reference.looked_at or not seen.looked_at:
        return 0.0
    shifts = [
        _shift(before, reference.looked_at, after, seen.looked_at)
        for before, after in zip(reference.channels, seen.channels, strict=False)
    ]
    return max(shifts, default=0.0)


def _shift(before: ChannelSketch, frames: int, after: ChannelSketch, frames_after: int) -> float:
    mean = before.means / frames
    spread = math.sqrt(max(0.0, before.mean_squares / frames - mean**2))
    return abs(after.means / frames_after - mean) / max(spread, LEAST_SPREAD)


def _shares(counts: Floats) -> Floats:
    filled = counts + PSEUDO
    shares: Floats = filled / filled.sum()
    return shares


def _aligned(first: Sequence[int], second: Sequence[int]) -> tuple[Floats, Floats]:
    """Both as arrays of one length; a bin that one side lacks is empty there."""
    made = np.zeros((2, max(len(first), len(second))))
    made[0, : len(first)], made[1, : len(second)] = first, second
    return made[0], made[1]
