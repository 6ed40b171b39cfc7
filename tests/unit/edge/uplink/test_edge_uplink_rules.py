"""The outbox's policy and the stream's window."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.uplink import rules
from edge.uplink.entities import Ledger, NewBatch, OutOfOrder, Size, StoredBatch, Window

EMPTY = Ledger(epoch=7)


def batch(last_frame: int, count: int = 1, source: str = "s") -> NewBatch:
    return NewBatch(count, b"x" * 10, source, last_frame)


def test_results_are_numbered_from_one_without_a_gap() -> None:
    ledger, stored = rules.number(EMPTY, [batch(3, 3), batch(5, 2)])
    assert [(b.first_seq, b.last_seq) for b in stored] == [(1, 3), (4, 5)]
    assert (ledger.last_seq, ledger.rows, ledger.bytes, ledger.watermarks) == (5, 5, 20, {"s": 5})


def test_a_batch_at_or_below_its_sources_watermark_is_not_appended_again() -> None:
    ledger, _ = rules.number(EMPTY, [batch(3, 3)])
    again, stored = rules.number(ledger, [batch(3, 3), batch(2, 2), batch(1, source="other")])
    assert [b.count for b in stored] == [1]
    assert again.watermarks == {"s": 3, "other": 1}


def test_frames_without_a_result_only_move_the_watermark() -> None:
    ledger, stored = rules.number(EMPTY, [NewBatch(0, b"", "s", 9)])
    assert stored == []
    assert (ledger.last_seq, ledger.watermarks) == (0, {"s": 9})


def test_what_is_within_the_bound_stays() -> None:
    ledger = replace(EMPTY, rows=2, bytes=20)
    assert rules.drop_oldest(ledger, [Size(1, 1, 10), Size(2, 1, 10)], max_bytes=20) == (ledger, 0)


def test_over_the_bound_the_oldest_go_and_are_counted() -> None:
    ledger = replace(EMPTY, rows=6, bytes=30)
    dropped, through = rules.drop_oldest(ledger, [Size(1, 1, 10), Size(3, 2, 10), Size(6, 3, 10)], max_bytes=15)
    assert through == 3
    assert (dropped.rows, dropped.bytes, dropped.dropped) == (3, 10, 3)


def test_a_watermark_above_all_that_was_appended_is_refused() -> None:
    with pytest.raises(OutOfOrder):
        rules.acknowledge(replace(EMPTY, next_seq=5), 5, [])


def test_a_stream_resumes_after_the_servers_watermark() -> None:
    resumption = rules.resume(replace(EMPTY, next_seq=11, acknowledged=4), watermark=6)
    assert (resumption.after, resumption.new_epoch, resumption.forgotten) == (6, False, 0)


def test_a_server_that_knows_more_than_was_ever_appended_gets_a_new_epoch() -> None:
    assert rules.resume(replace(EMPTY, next_seq=11), watermark=11).new_epoch


def test_what_the_server_forgot_is_told_and_the_rest_is_sent() -> None:
    resumption = rules.resume(replace(EMPTY, next_seq=11, acknowledged=8), watermark=3)
    assert (resumption.after, resumption.new_epoch, resumption.forgotten) == (3, False, 5)


def test_a_new_epoch_keeps_what_is_held_and_its_numbers() -> None:
    ledger = Ledger(1, next_seq=9, acknowledged=4, dropped=2, rows=3, bytes=30, watermarks={"s": 8})
    assert rules.begin_epoch(ledger, 2) == Ledger(2, next_seq=9, rows=3, bytes=30, watermarks={"s": 8}, before=5)


def flying(*sizes: int, window: int = 8) -> Window:
    state, seq = rules.open_window(window, 0), 1
    for size in sizes:
        state = rules.send(state, StoredBatch(seq, size, b""))
        seq += size
    return state


def test_a_full_window_takes_no_more() -> None:
    window = flying(1, 1, window=2)
    assert window.room == 0
    with pytest.raises(OutOfOrder):
        rules.send(window, StoredBatch(3, 1, b""))


def test_an_acknowledgement_within_a_batch_leaves_it_under_way() -> None:
    window = rules.acknowledged(flying(2, 4), 4, last_seq=6)
    assert window.done == 4
    assert [flight.last_seq for flight in window.flights] == [6]


def test_an_acknowledgement_of_an_earlier_streams_batches_counts() -> None:
    window = rules.acknowledged(flying(2), 40, last_seq=50)
    assert (window.done, window.sent, window.flights) == (40, 40, ())


def test_an_acknowledgement_of_what_was_never_appended_changes_nothing() -> None:
    with pytest.raises(OutOfOrder):
        rules.acknowledged(flying(2), 3, last_seq=2)


def test_an_old_acknowledgement_changes_nothing() -> None:
    window = rules.acknowledged(flying(2, 2), 2, last_seq=4)
    assert rules.acknowledged(window, 1, last_seq=4) == window


def test_a_batch_set_aside_counts_as_done_once_those_before_it_are() -> None:
    window = rules.quarantined(flying(1, 2, 3), 2)
    assert window.done == 0
    window = rules.acknowledged(window, 1, last_seq=6)
    assert window.done == 3
    assert [flight.first_seq for flight in window.flights] == [4]


def test_setting_aside_what_was_never_sent_is_refused() -> None:
    with pytest.raises(OutOfOrder):
        rules.quarantined(flying(1), 2)


@given(st.lists(st.tuples(st.sampled_from(["send", "ack", "aside"]), st.integers(1, 40))), st.integers(1, 5))
def test_done_never_passes_an_open_batch_and_the_window_never_overflows(
    steps: list[tuple[str, int]], size: int
) -> None:
    window = rules.open_window(size, 0)
    for step, value in steps:
        before = window
        if step == "send" and window.room:
            window = rules.send(window, StoredBatch(window.sent + 1, value, b""))
        elif step == "ack" and value <= window.sent:
            window = rules.acknowledged(window, value, window.sent)
        elif step == "aside" and value <= window.sent:
            window = rules.quarantined(window, value)
        assert before.done <= window.done <= window.sent
        assert len(window.flights) <= size
        assert all(flight.last_seq > window.done for flight in window.flights)
        assert not (window.flights and window.flights[0].settled)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_lies_between_nothing_and_its_cap(attempt: int, chance: float) -> None:
    assert 0 <= rules.backoff_s(attempt, chance) < rules.LONGEST_DELAY_S


def test_backoff_doubles_until_its_cap() -> None:
    assert [rules.backoff_s(attempt, 1.0) for attempt in (0, 1, 2, 30)] == [0.2, 0.4, 0.8, rules.LONGEST_DELAY_S]


@pytest.mark.parametrize(("settled", "lasted_s", "expected"), [(False, 1, 4), (True, 1, 0), (False, 60, 0)])
def test_the_count_of_attempts_begins_again_after_a_stream_that_was_of_use(
    *, settled: bool, lasted_s: float, expected: int
) -> None:
    assert rules.next_attempt(3, settled=settled, lasted_s=lasted_s) == expected


def test_a_server_cannot_silence_a_device_for_days() -> None:
    assert rules.pause_s(250) == 0.25
    assert rules.pause_s(2**32 - 1) == rules.LONGEST_PAUSE_S


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 100_000)), min_size=1, max_size=30), st.floats(1.0, 1e6))
def test_batches_that_each_wait_for_their_time_keep_to_the_rate(sends: list[tuple[float, int]], rate: float) -> None:
    now_s = paid_until = 0.0
    sent = []
    for wait_s, size in sends:
        now_s = max(now_s + wait_s, paid_until)
        sent.append((now_s, size))
        paid_until = rules.paid_until(paid_until, now_s, size, rate)
    for index, (began_s, _) in enumerate(sent):
        before_last = sum(size for _, size in sent[index:-1])
        assert sent[-1][0] - began_s >= before_last / rate * (1 - 1e-9) - 1e-6


def test_without_a_rate_nothing_waits() -> None:
    assert rules.paid_until(0.0, 5.0, 10**9, 0) == 5.0


@pytest.mark.parametrize(
    ("sent", "last_seq", "size", "fresh"),
    [
        (10, 11, 4, True),
        (10, 10 + rules.FRESH, 4, True),
        (10, 11 + rules.FRESH, 4, False),  # a backlog
        (10, 10, 4, False),  # nothing new
        (0, 1, 0, False),  # a server that does not take the kind
    ],
)
def test_few_that_may_go_now_are_news_and_many_a_backlog(sent: int, last_seq: int, size: int, *, fresh: bool) -> None:
    assert rules.is_fresh(Window(size, sent=sent, done=sent), last_seq) == fresh


def test_news_has_to_wait_for_room_in_its_window() -> None:
    assert not rules.is_fresh(flying(1, 1, window=2), last_seq=3)
