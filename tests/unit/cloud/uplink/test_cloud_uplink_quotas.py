"""Quotas: over time nobody sends more than the quota, and who sends less never waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud.uplink import quotas
from cloud.uplink.quotas import Quota, Quotas
from cloud.uplink.rules import BURST_S, Bucket, spent, wait_s

amounts = st.lists(st.integers(1, 5000), min_size=1, max_size=50)


@given(amounts, st.integers(1, 10_000))
def test_who_waits_as_told_sends_no_more_than_the_quota_and_a_burst(sent: list[int], per_s: int) -> None:
    bucket, now = Bucket(), 1000.0
    for amount in sent:
        bucket = spent(bucket, amount, per_s, now)
        now += wait_s(bucket, per_s)
    assert sum(sent) <= per_s * (now - 1000.0 + BURST_S) * 1.000001


@given(amounts, st.integers(1, 10_000), st.floats(1.0, 10.0))
def test_who_stays_below_the_quota_is_never_told_to_wait(sent: list[int], per_s: int, slack: float) -> None:
    bucket, now = Bucket(), 1000.0
    for amount in (min(amount, per_s) for amount in sent):
        now += slack * amount / per_s
        bucket = spent(bucket, amount, per_s, now)
        assert wait_s(bucket, per_s) == 0


@given(amounts)
def test_without_a_quota_nobody_waits(sent: list[int]) -> None:
    free = Quotas()
    assert not free.limited
    assert not any(free.spend("edge-1", amount, amount, 0.0) for amount in sent)


def test_rows_and_bytes_have_quotas_of_their_own_and_the_longer_wait_counts() -> None:
    limited = Quotas(Quota(rows_s=10, bytes_s=1000))
    assert limited.spend("edge-1", 40, 1000, 0.0) == 2.0
    assert limited.spend("edge-2", 1, 5000, 0.0) == 3.0


def test_one_device_over_its_quota_costs_no_other_anything() -> None:
    limited = Quotas(Quota(rows_s=10))
    assert limited.spend("edge-1", 1000, 0, 0.0) > 0
    assert limited.spend("edge-2", 10, 0, 0.0) == 0


def test_only_devices_that_owe_something_are_remembered() -> None:
    limited = Quotas(Quota(rows_s=10))
    limited.spend("flood", 10**9, 0, 0.0)
    for number in range(2 * quotas.MAX_DEVICES):
        limited.spend(f"edge-{number}", 1, 0, float(number))
    assert len(limited._buckets) <= quotas.MAX_DEVICES + 1
    assert limited.spend("flood", 1, 0, 0.0) > 0
