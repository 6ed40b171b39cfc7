"""What is chosen is what the policy says, the budget holds, and every byte of a sample is sent."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.samples import rules
from edge.samples.entities import Books, Policy, Reason, Upload
from protos.topics import MAX_SAMPLE_BYTES, MAX_SAMPLE_PIECES, SAMPLE_PIECE_BYTES

confidences = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50)
days = st.integers(0, 30_000)


def policy(below: float = 0.0, share: float = 0.0, bytes_per_day: int = 1000, model: str = "") -> Policy:
    return Policy("p", model, below, disagreement=False, share=share, bytes_per_day=bytes_per_day)


def numbers(count: int, first: int = 1) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.uint64)


@given(confidences, st.floats(0, 1, width=32))
def test_all_frames_below_the_threshold_are_chosen_and_no_other(confidence: list[float], below: float) -> None:
    chosen = rules.choose(policy(below=below), np.array(confidence, np.float32), numbers(len(confidence)), 1)
    assert set(chosen.places.tolist()) == {place for place, one in enumerate(confidence) if one < below}
    assert set(chosen.reasons) <= {Reason.LOW_CONFIDENCE}


@given(confidences, st.floats(0, 1), st.integers(0, 2**64 - 1))
def test_the_least_confident_come_first_whatever_they_were_chosen_for(
    confidence: list[float], share: float, seed: int
) -> None:
    found = np.array(confidence, np.float32)
    chosen = rules.choose(policy(below=0.5, share=share), found, numbers(len(found)), seed)
    assert (np.diff(found[chosen.places]) >= 0).all()
    assert len(chosen.reasons) == len(chosen)


@given(st.integers(1, 60), st.integers(1, 59), st.floats(0, 1), st.integers(0, 2**64 - 1))
def test_a_lot_falls_on_the_same_frames_however_they_are_cut_into_batches(
    count: int, cut: int, share: float, seed: int
) -> None:
    sure = np.ones(count, np.float32)
    whole = rules.choose(policy(share=share), sure, numbers(count), seed)
    cut = min(cut, count)
    first = rules.choose(policy(share=share), sure[:cut], numbers(cut), seed)
    second = rules.choose(policy(share=share), sure[cut:], numbers(count - cut, 1 + cut), seed)
    assert sorted(whole.places.tolist()) == sorted([*first.places.tolist(), *(second.places + cut).tolist()])


def test_the_lot_takes_its_share_of_many_frames() -> None:
    count = 200_000
    chosen = rules.choose(policy(share=0.01), np.ones(count, np.float32), numbers(count), rules.seed_of("edge-1", "s"))
    assert 0.009 < len(chosen) / count < 0.011
    assert set(chosen.reasons) == {Reason.RANDOM}


def test_each_source_draws_lots_of_its_own() -> None:
    seeds = {rules.seed_of(device, source) for device in ("edge-1", "edge-2") for source in ("a", "b")}
    drawn = {tuple(np.flatnonzero(rules.lots(numbers(1000), seed) < 0.1)) for seed in seeds}
    assert len(drawn) == 4


def test_the_first_policy_that_fits_the_model_counts() -> None:
    first, other, any_model = policy(model="a"), policy(model="b"), policy(share=0.5)
    assert rules.policy_for((first, other, any_model), "b") is other
    assert rules.policy_for((first, any_model), "b") is any_model
    assert rules.policy_for((first,), "b") is None


@given(
    st.lists(st.tuples(days, st.integers(0, 20), st.booleans()), max_size=40), st.integers(1, 500), st.integers(0, 900)
)
def test_neither_the_days_budget_nor_the_room_is_ever_exceeded(
    steps: list[tuple[int, int, bool]], budget: int, room: int
) -> None:
    books, kept, spent = Books(), list[int](), dict[int, int]()
    for day, wanted, sent in steps:
        if sent and kept:
            books = rules.forget(books, kept.pop())
        for _ in range(min(wanted, rules.affordable(policy(bytes_per_day=budget), books, day, 30, room))):
            books = rules.spend(books, "p", day, 30)
            kept.append(30)
            spent[day] = spent.get(day, 0) + 30
        assert spent.get(day, 0) <= budget
        assert sum(kept) == books.waiting <= room


def test_a_day_that_comes_again_finds_what_was_spent_in_it() -> None:
    books = rules.spend(Books(), "p", 20_000, 1000)
    assert rules.affordable(policy(), books, 20_001, 100, 10_000) == 10
    assert rules.affordable(policy(), rules.spend(books, "p", 0, 1000), 20_000, 100, 10_000) == 0


def test_what_could_not_be_kept_is_given_back() -> None:
    books = rules.spend(rules.spend(Books(), "p", 1, 1000), "p", 1, -1000)
    assert rules.affordable(policy(), books, 1, 100, 1000) == 10


def test_a_frame_too_large_to_be_sent_is_not_kept() -> None:
    assert rules.affordable(policy(bytes_per_day=2**40), Books(), 1, MAX_SAMPLE_BYTES + 1, 2**40) == 0


@given(st.lists(days, max_size=80), days)
def test_the_latest_days_and_today_are_remembered(seen: list[int], today: int) -> None:
    gone = rules.forgotten_days([*seen, today], today)
    left = {*seen, today} - set(gone)
    assert today in left
    assert len(left) <= rules.DAYS_KEPT + 1
    assert all(day <= min(left - {today}, default=day) for day in gone)


@given(st.lists(st.integers(1, 3 * SAMPLE_PIECE_BYTES), min_size=1, max_size=4), st.data())
def test_every_sample_arrives_whole_whatever_the_server_has_of_it(sizes: list[int], data: st.DataObject) -> None:
    had = [data.draw(st.integers(0, size - 1)) for size in sizes]
    uploads = {number: rules.answered(Upload(number, size), had[number]) for number, size in enumerate(sizes)}
    received, unanswered = dict(enumerate(had)), list[tuple[int, int]]()
    while any(received[number] < size for number, size in enumerate(sizes)):
        piece = rules.next_piece(uploads)
        if piece and (len(unanswered) == 0 or data.draw(st.booleans())):
            assert piece.offset == received[piece.id]
            assert 0 < piece.size <= SAMPLE_PIECE_BYTES
            uploads[piece.id] = rules.sent(uploads[piece.id], piece.size)
            received[piece.id] += piece.size
            unanswered.append((piece.id, received[piece.id]))
        else:
            number, offset = unanswered.pop(0)
            uploads[number] = rules.answered(uploads[number], offset)
        assert len(unanswered) <= MAX_SAMPLE_PIECES


def test_where_the_server_took_nothing_it_is_sent_again_once_all_is_answered() -> None:
    upload = rules.answered(Upload(1, 100_000), 0)
    upload = rules.sent(rules.sent(upload, SAMPLE_PIECE_BYTES), SAMPLE_PIECE_BYTES)
    upload = rules.answered(upload, 0)
    assert upload.sent == 2 * SAMPLE_PIECE_BYTES, "the other piece is still on its way"
    assert rules.answered(upload, 0).sent == 0
