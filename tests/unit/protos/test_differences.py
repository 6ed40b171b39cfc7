"""How far counts are from a reference: PSI, the two tests, and when a difference is an alarm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.kit.differences import (
    Difference,
    Thresholds,
    alarm,
    chi_squared,
    difference,
    kolmogorov,
    kolmogorov_smirnov,
    psi,
    upper_gamma,
)
from protos.kit.sketches import Tally, added

counts = st.lists(st.integers(0, 10_000), min_size=1, max_size=30)
pairs = st.integers(1, 30).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(0, 10_000), min_size=size, max_size=size)] * 2)
)


# From tables of the chi-squared distribution and of Kolmogorov's.
@pytest.mark.parametrize(("statistic", "freedom", "p"), [(3.841, 1, 0.05), (16.919, 9, 0.05), (27.877, 9, 0.001)])
def test_the_chi_squared_distribution_is_that_of_the_tables(statistic: float, freedom: int, p: float) -> None:
    assert upper_gamma(freedom / 2, statistic / 2) == pytest.approx(p, rel=1e-3)


@pytest.mark.parametrize(("x", "p"), [(1.2238, 0.1), (1.3581, 0.05), (1.6276, 0.01), (1.9495, 0.001)])
def test_kolmogorovs_distribution_is_that_of_the_tables(x: float, p: float) -> None:
    assert kolmogorov(x) == pytest.approx(p, rel=1e-3)


@given(st.floats(0.5, 200), st.floats(0, 1000))
def test_the_gamma_function_falls_from_one_to_zero(a: float, x: float) -> None:
    assert 0 <= upper_gamma(a, x + 1) <= upper_gamma(a, x) + 1e-9 <= 1 + 1e-9


@given(st.integers(1, 40), st.floats(0, 100))
def test_for_whole_numbers_the_gamma_function_is_a_sum_of_poisson_terms(a: int, x: float) -> None:
    terms = [math.exp(-x + k * math.log(x) - math.lgamma(k + 1)) if x else float(k == 0) for k in range(a)]
    assert upper_gamma(a, x) == pytest.approx(sum(terms), abs=1e-9)


@given(counts)
def test_what_is_like_its_reference_differs_in_nothing(seen: list[int]) -> None:
    assert psi(seen, seen) == pytest.approx(0)
    assert chi_squared(seen, seen) == 1
    assert kolmogorov_smirnov(seen, seen) == 1


@given(pairs)
def test_every_measure_is_within_its_range_and_the_same_from_both_sides(both: tuple[list[int], list[int]]) -> None:
    first, second = both
    assert psi(first, second) >= 0
    assert psi(first, second) == pytest.approx(psi(second, first))
    for test in (chi_squared, kolmogorov_smirnov):
        assert 0 <= test(first, second) <= 1
        assert test(first, second) == pytest.approx(test(second, first), abs=1e-9)


@given(counts)
def test_of_nothing_nothing_is_said(seen: list[int]) -> None:
    nothing = [0] * len(seen)
    assert (psi(seen, nothing), chi_squared(seen, nothing), kolmogorov_smirnov(nothing, seen)) == (0, 1, 1)


def test_samples_of_one_distribution_rarely_look_different() -> None:
    random = np.random.default_rng(1)
    shares = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    draws = [(random.multinomial(10_000, shares), random.multinomial(500, shares)) for _ in range(400)]
    for test in (chi_squared, kolmogorov_smirnov):
        assert sum(test(before, after) < 0.01 for before, after in draws) <= 12  # 4 expected
    assert max(psi(before, after) for before, after in draws) < 0.1


def test_the_chi_squared_test_gives_p_evenly_when_chance_alone_is_at_work() -> None:
    random = np.random.default_rng(2)
    shares = np.full(10, 0.1)
    found = [chi_squared(random.multinomial(10_000, shares), random.multinomial(500, shares)) for _ in range(1000)]
    assert 0.45 < np.mean(found) < 0.55


def sketch_of(values: np.ndarray, pixels: np.ndarray) -> Tally:
    tally = Tally(4, 1)
    tally.add(values.astype(np.uint16), np.full(len(values), 0.9, np.float32))
    tally.look(pixels)
    return tally


def test_brighter_frames_shift_the_input_by_their_spread() -> None:
    random = np.random.default_rng(3)
    levels = np.clip(random.normal(100, 10, 2000), 0, 255)
    frames = np.repeat(levels[:, None], 16, axis=1).astype(np.uint8)
    labels = np.arange(2000) % 4
    before, after = sketch_of(labels, frames), sketch_of(labels, frames + np.uint8(20))
    found = difference(before.sketch(), after.sketch())
    assert found.input_shift == pytest.approx(2, rel=0.05)
    assert alarm(found, Thresholds()) == f"pixels shifted by {found.input_shift:.1f} standard deviations"


def test_a_reference_that_looked_at_no_pixels_says_nothing_of_them() -> None:
    tally = Tally(4, 1)
    tally.add(np.zeros(10, np.uint16), np.ones(10, np.float32))
    seen = sketch_of(np.zeros(10), np.zeros((10, 16), np.uint8))
    assert difference(tally.sketch(), seen.sketch()).input_shift == 0


QUIET = Difference(1000, 0.0, 1.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (QUIET, ""),
        (Difference(1000, 0.3, 1e-9, 0.0, 1.0, 0.0), "labels differ (PSI 0.30, p 1e-09)"),
        (Difference(1000, 0.0, 1.0, 0.3, 1e-9, 0.0), "confidences differ (PSI 0.30, p 1e-09)"),
        (Difference(10, 0.3, 0.2, 0.3, 0.2, 0.0), ""),  # large, but so few frames that chance explains it
        (Difference(10**7, 0.01, 1e-99, 0.01, 1e-99, 0.0), ""),  # sure, but small
    ],
)
def test_an_alarm_is_for_a_difference_that_is_large_and_no_chance(found: Difference, says: str) -> None:
    assert alarm(found, Thresholds()) == says


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=20), min_size=1, max_size=5))
def test_sketches_of_parts_add_up_to_the_sketch_of_the_whole(parts: list[list[int]]) -> None:
    pixels = [np.repeat(np.array(part, np.uint8)[:, None] * 60, 16, axis=1) for part in parts]
    tallies = [sketch_of(np.array(part), frames) for part, frames in zip(parts, pixels, strict=True)]
    whole = sketch_of(np.concatenate([np.array(part) for part in parts]), np.concatenate(pixels)).sketch()
    total = added(tally.sketch() for tally in tallies)
    assert (total.frames, list(total.labels), list(total.confidences)) == (
        whole.frames,
        list(whole.labels),
        list(whole.confidences),
    )
    assert total.channels[0].means == pytest.approx(whole.channels[0].means)
    assert (total.channels[0].min, total.channels[0].max) == (whole.channels[0].min, whole.channels[0].max)
