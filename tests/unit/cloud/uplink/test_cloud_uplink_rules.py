"""The watermark and what can be stored: rules of the uplink."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.uplink.entities import (
    MAX_BATCH_BYTES,
    Fate,
    InvalidTruths,
    KnownVersion,
    Placement,
    ReceivedBatch,
    SeveralModels,
    StreamState,
    VersionSummary,
)
from cloud.uplink.rules import check_truths, complaint, handed_in, model_to_show, place, read
from protos.kit.columns import Malformed, Results, encode

DIGEST = bytes(32)
DIGITS = KnownVersion("digits", 2, classes=10)


def batch(first_seq: int, count: int, previous: int | None = None) -> ReceivedBatch:
    return ReceivedBatch(1, "edge-1", first_seq, count, b"", first_seq - 1 if previous is None else previous)


def results(**changes: object) -> Results:
    values: dict[str, object] = {
        "model": "digits",
        "version": 2,
        "manifest": DIGEST,
        "source": "camera",
        "frame": np.arange(3, dtype=np.uint64),
        "captured_us": np.arange(3, dtype=np.int64),
        "label": np.array([0, 9, 3], np.uint16),
        "confidence": np.ones(3, np.float32),
        "latency_us": np.ones(3, np.uint32),
    }
    return Results(**(values | changes))  # type: ignore[arg-type]


def test_the_next_batch_is_stored_whole_and_moves_the_watermark() -> None:
    assert place(StreamState(10), batch(11, 5)) == (StreamState(15), Placement(Fate.STORED, skip=0))


def test_a_batch_below_the_watermark_is_a_duplicate() -> None:
    state = StreamState(10, skipped=2)
    assert place(state, batch(6, 5)) == (state, Placement(Fate.DUPLICATE))


def test_of_an_overlapping_batch_only_the_tail_is_stored() -> None:
    assert place(StreamState(10), batch(8, 5, previous=7)) == (StreamState(12), Placement(Fate.STORED, skip=3))


def test_a_gap_that_the_device_made_is_counted() -> None:
    state, placement = place(StreamState(10, skipped=1), batch(15, 2, previous=10))
    assert (state, placement.fate) == (StreamState(16, skipped=5), Fate.STORED)


def test_a_batch_whose_forerunner_is_not_committed_is_not_taken() -> None:
    state, placement = place(StreamState(10), batch(16, 5, previous=15))
    assert (state, placement.fate) == (StreamState(10), Fate.DETACHED)
    assert "15 came before it" in placement.reason


def test_the_watermark_passes_an_unreadable_batch() -> None:
    state, placement = place(StreamState(10), batch(11, 5), "not a ResultBatch")
    assert (state, placement) == (StreamState(15, set_aside=5), Placement(Fate.QUARANTINED, reason="not a ResultBatch"))


def test_the_watermark_passes_a_batch_of_more_rows_than_are_allowed() -> None:
    too_many = batch(11, 5000)
    state, placement = place(StreamState(10), too_many, "count is 5000")
    assert (state, placement.fate) == (StreamState(5010, set_aside=5000), Fate.QUARANTINED)
    assert handed_in(too_many) == 5010


@pytest.mark.parametrize(("first_seq", "count"), [(0, 3), (5, 0), (2**62 + 1, 1), (1, 2**18 + 1)])
def test_unusable_sequence_numbers_move_nothing(first_seq: int, count: int) -> None:
    broken = batch(first_seq, count, previous=4)
    state, placement = place(StreamState(4), broken)
    assert (state, placement.fate, handed_in(broken)) == (StreamState(4), Fate.QUARANTINED, 4)


def test_a_batch_set_aside_once_is_a_duplicate_the_second_time() -> None:
    state, _ = place(StreamState(0), batch(1, 5), "broken")
    assert place(state, batch(1, 5), "broken")[1].fate is Fate.DUPLICATE


runs = st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(0, 40))


@given(st.lists(runs, max_size=40))
def test_whatever_arrives_each_number_is_stored_at_most_once_and_the_rest_is_counted(
    arrivals: list[tuple[int, int, int]],
) -> None:
    """Duplicated, reordered, cut, overlapping, with any claim about what came before."""
    state, stored = StreamState(0), []
    for first_seq, count, previous in arrivals:
        before = state
        state, placement = place(state, batch(first_seq, count, previous))
        assert state.watermark >= before.watermark
        if placement.fate is Fate.STORED:
            stored += range(first_seq + placement.skip, first_seq + count)
    assert len(stored) == len(set(stored))
    assert stored == sorted(stored)
    assert len(stored) + state.skipped == state.watermark


@given(st.data())
def test_a_device_that_sends_in_order_has_every_number_stored_exactly_once(data: st.DataObject) -> None:
    """However often its connection is cut, or a commit fails and a later one of the same connection does not."""
    total = 30
    state, stored = StreamState(0), []
    for _ in range(data.draw(st.integers(0, 6), "connections")):
        previous = state.watermark
        next_seq = data.draw(st.integers(1, state.watermark + 1), "resent from")
        for _ in range(data.draw(st.integers(0, 6), "batches")):
            count = data.draw(st.integers(1, 7), "count")
            arrived = batch(next_seq, count, previous)
            previous, next_seq = handed_in(arrived), next_seq + count
            if data.draw(st.booleans(), "commit fails"):
                continue
            state, placement = place(state, arrived)
            if placement.fate is Fate.STORED:
                stored += range(arrived.first_seq + placement.skip, arrived.first_seq + count)
    state, placement = place(state, batch(1, total + 400, previous=state.watermark))
    stored += range(1 + placement.skip, 1 + total + 400)
    assert stored == list(range(1, total + 401))
    assert state == StreamState(total + 400, skipped=0)


def test_results_of_a_registered_version_are_no_cause_for_complaint() -> None:
    assert complaint(results(), DIGITS) == ""


@pytest.mark.parametrize(
    ("changes", "known", "reason"),
    [
        ({}, None, "'digits' 2 with manifest 00000000"),
        ({"version": 3}, DIGITS, "manifest is that of 'digits' 2"),
        ({"label": np.array([0, 10, 3], np.uint16)}, DIGITS, "label 10"),
        ({"source": "no/name"}, DIGITS, "source 'no/name'"),
        ({"slot": "No"}, DIGITS, "slot 'No'"),
    ],
)
def test_results_that_cannot_be_stored_are_told_why(
    changes: dict[str, object], known: KnownVersion | None, reason: str
) -> None:
    assert reason in complaint(results(**changes), known)


def test_a_readable_batch_is_read() -> None:
    assert read(encode(results()), 3).label.tolist() == [0, 9, 3]


def test_a_batch_over_the_limit_is_not_read() -> None:
    with pytest.raises(Malformed, match="a batch may have 131072"):
        read(bytes(MAX_BATCH_BYTES + 1), 3)


@pytest.mark.parametrize(
    ("device", "source", "first_frame", "labels", "reason"),
    [
        ("No", "s", 1, [1], "device 'No'"),
        ("d", "", 1, [1], "source ''"),
        ("d", "s", 0, [1], "numbered from 1"),
        ("d", "s", 1, [], "0 labels"),
        ("d", "s", 1, [1, -1], "label -1"),
    ],
)
def test_truths_that_cannot_be_kept_are_refused_with_the_reason(
    device: str, source: str, first_frame: int, labels: list[int], reason: str
) -> None:
    with pytest.raises(InvalidTruths, match=reason):
        check_truths(device, source, first_frame, labels)


def test_a_summary_shows_the_only_model_unasked() -> None:
    assert model_to_show([VersionSummary("digits", 1, 5, None), VersionSummary("digits", 2, 5, None)], None) == "digits"


def test_a_summary_over_several_models_asks_for_one() -> None:
    versions = [VersionSummary("faces", 1, 5, None), VersionSummary("digits", 1, 5, None)]
    with pytest.raises(SeveralModels, match="digits, faces"):
        model_to_show(versions, None)
    assert model_to_show(versions, "faces") == "faces"


def test_a_summary_of_nothing_shows_no_model() -> None:
    assert model_to_show([], None) is None
