"""Columns of results: what the device encodes is what the cloud decodes, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.kit import columns
from protos.topics import MAX_BATCH_ROWS
from protos.v1 import uplink_pb2


def results(count: int, first_frame: int = 1, first_us: int = 1_700_000_000_000_000) -> columns.Results:
    rising = np.arange(count)
    return columns.Results(
        model="digits",
        version=2,
        manifest=b"m" * 32,
        source="sensor",
        frame=(rising * 3 + first_frame).astype(np.uint64),
        captured_us=(rising * 1000 + first_us).astype(np.int64),
        label=(rising % 10).astype(np.uint16),
        confidence=np.linspace(0, 1, count, dtype=np.float32),
        latency_us=(rising + 50).astype(np.uint32),
    )


@given(count=st.integers(1, 300), first_frame=st.integers(1, 2**40))
def test_a_batch_comes_back_as_it_was(count: int, first_frame: int) -> None:
    sent = results(count, first_frame)
    got = columns.decode(columns.encode(sent), count)
    assert (got.model, got.version, got.manifest, got.source) == ("digits", 2, b"m" * 32, "sensor")
    for name in ("frame", "captured_us", "label", "confidence", "latency_us"):
        np.testing.assert_array_equal(getattr(got, name), getattr(sent, name))


@pytest.mark.parametrize("slot", ["default", "doors"])
def test_a_batch_knows_the_slot_of_the_model_that_answered(slot: str) -> None:
    assert columns.decode(columns.encode(replace(results(3), slot=slot)), 3).slot == slot


def test_an_older_agent_names_no_slot_and_means_the_default_one() -> None:
    message = uplink_pb2.ResultBatch.FromString(columns.encode(results(3)))
    assert not message.slot
    assert columns.decode(message.SerializeToString(), 3).slot == "default"


def test_a_clock_that_jumps_back_within_a_batch_is_held_not_wrapped() -> None:
    sent = results(3)
    sent.captured_us[2] = 0
    got = columns.decode(columns.encode(sent), 3)
    assert got.captured_us[2] == sent.captured_us[0]


@pytest.mark.parametrize("count", [0, MAX_BATCH_ROWS + 1])
def test_a_batch_outside_the_bounds_is_not_encoded(count: int) -> None:
    with pytest.raises(columns.Malformed, match="1 to"):
        columns.encode(results(count))


def test_a_count_that_differs_from_the_envelope_is_malformed() -> None:
    with pytest.raises(columns.Malformed, match="envelope says 4"):
        columns.decode(columns.encode(results(5)), 4)


@pytest.mark.parametrize("name", ["frame_offset", "captured_offset_us", "label", "confidence", "latency_us"])
def test_a_column_that_is_cut_is_named(name: str) -> None:
    batch = uplink_pb2.ResultBatch.FromString(columns.encode(results(5)))
    setattr(batch, name, getattr(batch, name)[:-1])
    with pytest.raises(columns.Malformed, match=name):
        columns.decode(batch.SerializeToString(), 5)


def test_a_confidence_that_is_not_a_number_is_malformed() -> None:
    sent = results(2)
    sent.confidence[1] = np.nan
    with pytest.raises(columns.Malformed, match="confidence"):
        columns.decode(columns.encode(sent), 2)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_batch_or_malformed_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(columns.Malformed):
        assert len(columns.decode(data, 1)) == 1
