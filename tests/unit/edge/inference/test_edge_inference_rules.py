"""What is taken from a source, and how much at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference import rules
from edge.inference.entities import MalformedFrames
from edge.inference.rules import Take
from protos.topics import MAX_BATCH_ROWS


def test_a_sound_batch_passes() -> None:
    rules.check_batch(1, 3, 3 * 784, 12, 0)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"count": 0}, "count"),
        ({"count": MAX_BATCH_ROWS + 1}, "count"),
        ({"first_frame": 0}, "first_frame"),
        ({"first_frame": 2**62 - 2}, "first_frame"),
        ({"pixel_bytes": 0}, "pixels"),
        ({"pixel_bytes": 3 * 784 + 1}, "pixels"),
        ({"offset_bytes": 8}, "captured_offset_us"),
        ({"first_captured_us": 2**62}, "first_captured_us"),
    ],
)
def test_a_batch_that_contradicts_itself_is_refused_by_the_name_of_the_field(wrong: dict[str, int], named: str) -> None:
    sound = {"first_frame": 1, "count": 3, "pixel_bytes": 3 * 784, "offset_bytes": 12, "first_captured_us": 0}
    with pytest.raises(MalformedFrames, match=named):
        rules.check_batch(**(sound | wrong))


def test_frames_of_the_models_size_fit() -> None:
    assert rules.misfit(784, (28, 28)) == ""
    assert "28 x 28" in rules.misfit(783, (28, 28))


@pytest.mark.parametrize(("accepted", "known"), [(0, 0), (9, 0), (10, 1), (12, 3), (14, 5), (99, 5)])
def test_frames_accepted_before_are_known(accepted: int, known: int) -> None:
    assert rules.known(10, 5, accepted) == known


def test_an_empty_queue_takes_a_batch_of_any_size() -> None:
    assert rules.has_room(0, 1000, limit=10)
    assert not rules.has_room(1, 10, limit=10)
    assert rules.has_room(1, 9, limit=10)


def test_waiting_runs_are_joined_up_to_the_limit() -> None:
    assert rules.take([(1, 3, 4), (4, 3, 4), (7, 3, 4)], limit=7) == Take(whole=2, part=1)
    assert rules.take([(1, 3, 4), (4, 3, 4)], limit=6) == Take(whole=2, part=0)
    assert rules.take([(1, 9, 4)], limit=4) == Take(whole=0, part=4)


def test_frames_of_another_size_are_not_joined() -> None:
    assert rules.take([(1, 3, 4), (4, 3, 5)], limit=64) == Take(whole=1, part=0)


def test_a_gap_too_wide_for_one_batch_of_results_ends_it() -> None:
    assert rules.take([(1, 1, 4), (2**32, 2, 4)], limit=64) == Take(whole=1, part=1)
    assert rules.take([(1, 1, 4), (2**40, 2, 4)], limit=64) == Take(whole=1, part=0)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2**33), st.sampled_from([4, 9])), min_size=1), st.data())
def test_taking_by_turns_takes_every_frame_once_in_order(
    shape: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    waiting, frame = [], 1
    for count, gap, size in shape:
        waiting.append((frame + gap, count, size))
        frame += gap + count
    expected = [(first + n, size) for first, count, size in waiting for n in range(count)]
    taken: list[tuple[int, int]] = []
    while waiting:
        limit = data.draw(st.integers(1, 64))
        amount = rules.take(waiting, limit)
        runs, waiting = waiting[: amount.whole], waiting[amount.whole :]
        if amount.part:
            first, count, size = waiting[0]
            runs.append((first, amount.part, size))
            waiting[0] = (first + amount.part, count - amount.part, size)
        batch = [(first + n, size) for first, count, size in runs for n in range(count)]
        assert 0 < len(batch) <= limit
        assert batch[-1][0] - batch[0][0] < rules.MAX_SPAN
        assert len({size for _, size in batch}) == 1
        taken += batch
    assert taken == expected
