"""Waves: who goes first, and what is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.rollouts import waves
from cloud.rollouts.entities import BadWaves, Candidate


def fleet(count: int) -> list[Candidate]:
    return [Candidate(f"edge-{number:03}", {}, online=True) for number in range(count)]


def sizes(count: int, *wanted: str) -> list[int]:
    return [len(wave) for wave in waves.plan(fleet(count), wanted)]


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [
        (5, ("1", "rest"), [1, 4]),
        (100, ("1", "25%", "rest"), [1, 25, 74]),
        (10, ("1", "25%"), [1, 3, 6]),
        (3, ("100%",), [3]),
        (3, (), [3]),
        (1, ("1", "rest"), [1]),
        (2, ("5", "50%", "rest"), [2]),
        (3, ("0.1%", "rest"), [1, 2]),
    ],
)
def test_waves_have_the_sizes_asked_for_and_leave_nobody_out(
    count: int, wanted: tuple[str, ...], expected: list[int]
) -> None:
    assert sizes(count, *wanted) == expected


@pytest.mark.parametrize("wave", ["", "0", "-1", "0%", "101%", "1.5", "half", "%", "1 ", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_a_wave_that_makes_no_sense_is_refused_by_name(wave: str) -> None:
    with pytest.raises(BadWaves, match="wave"):
        sizes(5, wave)


def test_rest_before_the_end_is_refused() -> None:
    with pytest.raises(BadWaves, match="must be the last"):
        sizes(5, "rest", "1")


def test_devices_that_are_online_go_first() -> None:
    candidates = [Candidate("a", {}, online=False), Candidate("b", {}, online=True), Candidate("c", {}, online=True)]
    assert waves.plan(candidates, ["1", "rest"]) == [["b"], ["c", "a"]]


@given(
    count=st.integers(1, 200),
    wanted=st.lists(st.one_of(st.integers(1, 50).map(str), st.integers(1, 100).map("{}%".format)), max_size=6),
)
def test_every_device_is_in_exactly_one_wave_and_no_wave_is_empty(count: int, wanted: list[str]) -> None:
    planned = waves.plan(fleet(count), wanted)
    assert sorted(device for wave in planned for device in wave) == [candidate.device for candidate in fleet(count)]
    assert all(planned)


@pytest.mark.parametrize(
    ("selector", "matched"),
    [
        ({}, True),
        ({"site": "a"}, True),
        ({"site": "a", "arch": "arm"}, True),
        ({"site": "b"}, False),
        ({"x": ""}, False),
    ],
)
def test_a_selector_means_devices_that_have_all_its_labels(selector: dict[str, str], *, matched: bool) -> None:
    assert waves.matches(selector, {"site": "a", "arch": "arm"}) is matched
