"""How slots share a device."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.foundation.shares import MAX_SLOTS, Share, shared, shares_from
from protos.topics import SHADOW


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("default=3,doors=1", {"default": 3, "doors": 1}),
        (" front = 2 , back ", {"front": 2, "back": 1}),
        ({"default": 3, "doors": "1"}, {"default": 3, "doors": 1}),
    ],
)
def test_slots_are_named_with_their_shares(value: object, expected: dict[str, int]) -> None:
    assert shares_from(value) == expected
    assert list(shares_from(value)) == list(expected)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("", "0 slots: a device has 1 to 16"),
        ("a,a", "given twice"),
        ("Doors=1", "slot 'Doors' is not a name"),
        ("doors=0", "the share of slot 'doors' is '0': give a whole number from 1 to 1000"),
        ("doors=1.5", "the share of slot 'doors' is '1.5'"),
        ({"doors": True}, "the share of slot 'doors' is True"),
        ({f"s{number}": 1 for number in range(MAX_SLOTS + 1)}, "17 slots"),
        (f"doors{SHADOW}", "has a challenger's name"),
        (7, "slots are given as name=share"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        shares_from(value)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_single_slot_has_all_threads_and_the_priority_of_the_agent(threads: int) -> None:
    assert shared({"default": 7}, threads, cores=2) == {"default": Share(threads, 0)}


@pytest.mark.parametrize(
    ("shares", "threads", "cores", "expected"),
    [
        ({"a": 3, "b": 1}, 4, 4, {"a": 3, "b": 1}),
        ({"a": 1, "b": 1}, 4, 4, {"a": 2, "b": 2}),
        ({"a": 3, "b": 1}, 16, 4, {"a": 3, "b": 1}),
        ({"a": 3, "b": 1}, 1, 4, {"a": 1, "b": 1}),
        ({"a": 1, "b": 1, "c": 1}, 8, 2, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_threads_are_divided_by_the_shares(
    shares: dict[str, int], threads: int, cores: int, expected: dict[str, int]
) -> None:
    assert {name: share.threads for name, share in shared(shares, threads, cores).items()} == expected


def test_a_slot_with_a_third_of_the_largest_share_has_a_third_of_its_weight() -> None:
    nice = shared({"a": 3, "b": 1}, 1, 1)["b"].nice
    assert 1.25**nice == pytest.approx(3, rel=0.12)


all_shares = st.dictionaries(st.text("abc", min_size=1), st.integers(1, 1000), min_size=2, max_size=MAX_SLOTS)


@given(all_shares, st.integers(1, 256), st.integers(1, 64))
def test_together_slots_have_no_more_threads_than_cores_but_one_each(
    shares: dict[str, int], threads: int, cores: int
) -> None:
    found = shared(shares, threads, cores)
    assert sum(share.threads for share in found.values()) == max(len(shares), min(threads, cores))
    assert all(share.threads >= 1 and 0 <= share.nice <= 19 for share in found.values())


@given(all_shares, st.integers(1, 256), st.integers(1, 64))
def test_a_larger_share_never_has_less(shares: dict[str, int], threads: int, cores: int) -> None:
    found = shared(shares, threads, cores)
    order = sorted(shares, key=lambda name: shares[name])
    for smaller, larger in itertools.pairwise(order):
        assert found[smaller].nice >= found[larger].nice
        if shares[smaller] < shares[larger]:
            assert found[smaller].threads <= found[larger].threads
