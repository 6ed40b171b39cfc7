"""How large micro-batches are, when results are committed, and when a model's process is given up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference import rules
from edge.inference.entities import Cost

MICROSECONDS = st.floats(0.0, 1e7)
COSTS = st.builds(Cost, MICROSECONDS, st.floats(0.1, 1e7), st.sampled_from([1, 4, 16, 64]))


@given(COSTS, MICROSECONDS, st.integers(1, 4096))
def test_a_micro_batch_stays_within_the_latency_bound_but_has_a_frame_at_least(
    cost: Cost, bound_us: float, most: int
) -> None:
    limit = rules.batch_limit(cost, bound_us, most)
    assert 1 <= limit <= most
    assert limit == 1 or cost.fixed_us + limit * cost.frame_us <= bound_us * 1.0001


@given(COSTS, MICROSECONDS, st.integers(1, 4096))
def test_more_than_one_invocation_are_whole_ones_of_the_best_size(cost: Cost, bound_us: float, most: int) -> None:
    limit = rules.batch_limit(cost, bound_us, most)
    assert limit <= cost.best or limit % cost.best == 0


@given(COSTS, MICROSECONDS, st.integers(1, 4096), st.floats(1.0, 100.0))
def test_a_slower_model_gets_no_more_frames(cost: Cost, bound_us: float, most: int, factor: float) -> None:
    slower = Cost(cost.fixed_us, cost.frame_us * factor, cost.best)
    assert rules.batch_limit(slower, bound_us, most) <= rules.batch_limit(cost, bound_us, most)


@given(st.lists(st.floats(20.0, 30.0), min_size=100, max_size=150))
def test_what_a_frame_is_believed_to_take_follows_what_it_takes(frame_us: list[float]) -> None:
    cost = Cost(5.0, 1000.0, 16)
    for taken in frame_us:
        cost = rules.observed(cost, 50, 5.0 + 50 * taken)
    assert 19.0 < cost.frame_us < 31.0
    assert (cost.fixed_us, cost.best) == (5.0, 16)


@pytest.mark.parametrize(
    ("taken_ns", "cost"),
    [
        ({1: 20_000, 4: 60_000, 16: 160_000, 64: 640_000}, Cost(10.0, 10.0, 64)),  # as good as 16: the larger
        ({1: 20_000, 4: 40_000, 16: 320_000}, Cost(10.0, 10.0, 4)),
        ({1: 5_000_000}, Cost(0.0, 5000.0, 1)),
    ],
)
def test_the_best_batch_is_the_largest_that_is_as_good_as_any(taken_ns: dict[int, int], cost: Cost) -> None:
    assert rules.cost_of(taken_ns) == cost


@given(st.dictionaries(st.sampled_from([4, 16, 64]), st.integers(1, 10**10)), st.integers(1, 10**10))
def test_a_cost_is_never_negative_and_its_best_batch_is_one_that_was_tried(others: dict[int, int], one: int) -> None:
    taken_ns = {1: one} | others
    cost = rules.cost_of(taken_ns)
    assert cost.fixed_us >= 0
    assert cost.frame_us > 0
    assert cost.best in taken_ns


@given(st.integers(1, 4096), st.integers(1, 2**24))
def test_large_frames_are_fewer_at_once_so_that_they_fit_the_memory(most: int, frame_bytes: int) -> None:
    frames = rules.slot_frames(most, frame_bytes)
    assert 1 <= frames <= most
    assert frames == 1 or frames * frame_bytes <= rules.SLOT_BYTES


@given(st.integers(1, 10_000), st.integers(1, 2**26), st.one_of(st.none(), COSTS))
def test_a_queue_is_bounded_in_frames_memory_and_time(most: int, frame_bytes: int, cost: Cost | None) -> None:
    limit = rules.queue_limit(most, frame_bytes, cost)
    assert limit >= rules.LEAST_QUEUED
    assert limit == rules.LEAST_QUEUED or limit <= most
    assert limit == rules.LEAST_QUEUED or limit * frame_bytes <= rules.QUEUE_BYTES
    assert limit == rules.LEAST_QUEUED or cost is None or limit * cost.frame_us <= rules.QUEUE_S * 1.0001e6


@given(st.floats(0.0, 1e6))
def test_results_wait_for_more_only_under_load_and_never_long(since_s: float) -> None:
    assert rules.gather_s(since_s, more_coming=False) == 0
    assert 0 <= rules.gather_s(since_s, more_coming=True) <= rules.GATHER_S


@pytest.mark.parametrize(
    ("waited_s", "count", "hung"),
    [(9.0, 1, False), (11.0, 1, True), (11.0, 20, False), (21.0, 20, True)],
)
def test_a_model_is_hung_after_the_bound_or_many_times_what_it_should_take(
    waited_s: float, count: int, *, hung: bool
) -> None:
    assert rules.is_hung(waited_s, count, Cost(0.0, 100_000.0, 1), bound_s=10.0) is hung


@given(st.integers(0, 10_000))
def test_a_process_that_keeps_ending_is_started_ever_more_slowly_within_a_bound(failures: int) -> None:
    assert 0 < rules.restart_s(failures) <= rules.restart_s(failures + 1) <= rules.LONGEST_RESTART_S


@given(COSTS, st.integers(0, 1), st.integers(1, 4096))
def test_while_a_model_infers_one_micro_batch_the_next_is_there_however_small(
    cost: Cost, batches: int, limit: int
) -> None:
    assert rules.least_begun(batches, batches * limit, cost, limit) == 1


@given(COSTS, st.integers(2, 8), st.integers(1, 4096), st.integers(1, 4096))
def test_beyond_two_it_gets_full_ones_only_until_it_has_work_for_long_enough(
    cost: Cost, batches: int, frames: int, limit: int
) -> None:
    least = rules.least_begun(batches, frames, cost, limit)
    ahead_s = (batches * cost.fixed_us + frames * cost.frame_us) / 1e6
    assert least == (limit if batches < rules.MOST_AHEAD and ahead_s < rules.AHEAD_S else None)
