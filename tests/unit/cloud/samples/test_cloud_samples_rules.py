"""Which policies a device follows, and which offers are refused with which reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.samples import rules
from cloud.samples.entities import InvalidPolicy, Known, Offer, Policy
from protos.topics import MAX_SAMPLE_BYTES

KNOWN = Known("digits", 1, classes=10, shape=(28, 28))
OFFER = Offer(b"d" * 32, 784, "camera", 7, 1, "digits", 1, b"m" * 32, 3, 0.4, "low confidence")
POLICY = Policy("unsure", 1000, below=0.5)

labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)


@given(st.lists(st.tuples(labels, st.sampled_from(["", "digits"])), max_size=6), labels)
def test_a_device_follows_what_its_labels_fit_the_most_special_first(
    made: list[tuple[dict[str, str], str]], own: dict[str, str]
) -> None:
    every = [Policy(f"p{i}", 1, model, selector, 0.5) for i, (selector, model) in enumerate(made)]
    followed = rules.for_device(every, own)
    assert {one.name for one in followed} == {one.name for one in every if one.selector.items() <= own.items()}
    order = [(not one.model, -len(one.selector), one.name) for one in followed]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest": b"short"}, "digest has 5 bytes"),
        ({"size": 0}, "a sample has 1 to"),
        ({"size": MAX_SAMPLE_BYTES + 1}, "a sample has 1 to"),
        ({"size": 783}, "783 bytes, but frames of 'digits' 1 have 28 x 28 pixels"),
        ({"version": 2}, "says 'digits' 2, but its manifest is that of 'digits' 1"),
        ({"frame": 0}, "frames count from 1"),
        ({"frame": 2**62}, "below 2**62"),
        ({"captured_us": 2**62}, "below 2**62"),
        ({"label": 10}, "label 10, but 'digits' 1 has 10 classes"),
        ({"confidence": float("nan")}, "no number"),
        ({"source": "../x"}, "is not a name"),
        ({"reason": ""}, "0 characters"),
        ({"reason": "x" * 65}, "65 characters"),
    ],
)
def test_an_offer_that_cannot_be_is_refused_with_the_reason(changes: dict[str, object], reason: str) -> None:
    assert rules.complaint(OFFER, KNOWN) == ""
    assert reason in rules.complaint(replace(OFFER, **changes), KNOWN)  # type: ignore[arg-type]


def test_an_offer_of_a_model_that_is_not_registered_is_refused() -> None:
    assert "is not registered here" in rules.complaint(OFFER, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "Not A Name"}, "is not a name"),
        ({"model": "Digits"}, "is not a name"),
        ({"below": 1.5}, "from 0 to 1"),
        ({"share": -0.1}, "from 0 to 1"),
        ({"below": 0.0}, "it chooses nothing"),
        ({"bytes_per_day": 0}, "a budget has a byte at least"),
    ],
)
def test_a_policy_that_no_device_could_follow_is_refused_with_the_reason(
    changes: dict[str, object], reason: str
) -> None:
    rules.check_policy(POLICY)
    with pytest.raises(InvalidPolicy, match=reason):
        rules.check_policy(replace(POLICY, **changes))  # type: ignore[arg-type]
