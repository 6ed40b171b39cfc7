import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery import rules
from edge.delivery.entities import Asked, Chunk, Rejected, Step
from edge.delivery.rules import Budget, Download, Pace
from protos.topics import MAX_ARTIFACT_BYTES, MAX_CHUNK_BYTES
from protos.v1.manifest_pb2 import (
    COMPRESSION_NONE,
    COMPRESSION_UNSPECIFIED,
    PATCH_KIND_DIFFERENCE,
    PATCH_KIND_UNSPECIFIED,
    Artifact,
    ChunkRef,
    Patch,
    PatchKind,
)


def download_of(chunks: list[bytes]) -> Download:
    return Download(tuple(hashlib.sha256(chunk).digest() for chunk in chunks), tuple(map(len, chunks)))


some_chunks = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=24)


@given(some_chunks, st.data())
def test_chunks_in_any_order_duplicated_lost_or_corrupted_end_with_the_artifact_or_not_enough_yet(
    chunks: list[bytes], data: st.DataObject
) -> None:
    download, kept = download_of(chunks), dict[int, bytes]()
    indices = st.integers(-1, len(chunks))
    good = st.sampled_from(list(enumerate(chunks)))
    stray = st.tuples(indices, st.binary(max_size=40) | st.sampled_from(chunks))
    for index, piece in data.draw(st.lists(good | stray, max_size=3 * len(chunks))):
        before = download
        download, verdict = rules.accept(download, index, piece)
        if verdict is Chunk.NEW:
            assert index not in kept
            kept[index] = piece
        else:
            assert download == before
    assert all(kept[index] == chunks[index] for index in kept)
    assert sorted([*kept, *download.missing]) == list(range(len(chunks)))
    assert download.count == len(kept)
    assert download.complete == (len(kept) == len(chunks))


@given(some_chunks, st.randoms(use_true_random=False), st.integers(1, 20), st.floats(0, 0.9))
def test_a_lossy_broker_is_worn_down(chunks: list[bytes], dice: random.Random, window: int, loss: float) -> None:
    """Ask, lose, ask again: what the rules say to ask for comes to the whole, each chunk taken once."""
    download, asked, now, taken = download_of(chunks), dict[int, Asked](), 0.0, 0
    while not download.complete:
        wanted = rules.next_wanted(download, asked, window - len(asked))
        asked |= dict.fromkeys(wanted, Asked(now, now))
        assert 0 < len(asked) <= window
        now += 1
        overdue = [index for index, since in asked.items() if rules.overdue_s(since, 0.5, 0) <= now]
        for index in overdue:
            asked[index] = replace(asked[index], since_s=now, attempts=asked[index].attempts + 1)
        sent = [*wanted, *overdue]
        dice.shuffle(sent)
        for index in sent:
            if dice.random() >= loss:
                download, verdict = rules.accept(download, index, chunks[index])
                taken += verdict is Chunk.NEW
                asked.pop(index, None)
    assert taken == len(chunks)


@given(some_chunks, st.data())
def test_a_flipped_bit_is_found(chunks: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(chunks) - 1))
    wrong = bytearray(chunks[index])
    wrong[data.draw(st.integers(0, len(wrong) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    download = download_of(chunks)
    assert rules.accept(download, index, bytes(wrong)) == (download, Chunk.CORRUPT)


def test_the_window_is_filled_with_the_first_missing_that_are_not_on_their_way() -> None:
    download = Download((b"",) * 10, (1,) * 10, present=0b11)
    assert rules.next_wanted(download, [2, 5], 2) == [3, 4]
    assert rules.next_wanted(download, [2, 3, 4, 5, 6], -1) == []
    assert rules.next_wanted(download, [], 99) == list(range(2, 10))


@given(st.sets(st.integers(0, 99)), st.integers(100, 120))
def test_a_bitmap_has_one_bit_for_each_chunk(indices: set[int], chunks: int) -> None:
    bits = rules.bitmap(indices, chunks)
    assert len(bits) == (chunks + 7) // 8
    assert {i for i in range(len(bits) * 8) if bits[i // 8] >> i % 8 & 1} == indices


ROUND = rules.RESUBSCRIPTIONS + 1


@given(st.integers(0, 10**6))
def test_the_cloud_is_asked_only_after_the_broker_was_asked_again_and_again(attempts: int) -> None:
    steps = [rules.next_step(attempt) for attempt in range(attempts, attempts + ROUND)]
    assert steps.count(Step.REPAIR) == 1
    assert rules.next_step(0) is Step.RESUBSCRIBE


@given(st.floats(0, 0.2))
def test_a_fleet_of_a_thousand_hardly_ever_asks_the_cloud_for_what_the_broker_has(loss: float) -> None:
    asks = loss**ROUND  # every delivery of a round was lost
    assert 1 - (1 - asks) ** 1000 < 0.07


@given(st.integers(0, 1000))
def test_after_corrupt_bytes_the_cloud_is_asked_next(attempts: int) -> None:
    after = rules.corrupted(Asked(0, 0, attempts))
    assert rules.next_step(after.attempts) is Step.REPAIR
    assert attempts <= after.attempts < attempts + ROUND


@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(0, 1, exclude_max=True))
def test_a_chunk_is_given_more_time_at_each_attempt_of_a_round_and_at_each_round_but_not_for_ever(
    attempts: int, patience_s: float, jitter: float
) -> None:
    def waits_s(attempts: int) -> float:
        return rules.overdue_s(Asked(0, 0, attempts), patience_s, jitter)

    assert min(patience_s, rules.LONGEST_PATIENCE_S) <= waits_s(attempts) <= rules.LONGEST_PATIENCE_S
    assert waits_s(attempts + ROUND) >= waits_s(attempts)
    if (attempts + 1) % ROUND:
        assert waits_s(attempts + 1) >= waits_s(attempts)


def test_the_time_counts_from_when_the_broker_granted_the_request() -> None:
    assert rules.overdue_s(Asked(requested_s=1, since_s=50), 2, 0) == 52


delays = st.lists(st.floats(0.0001, 10), max_size=200)


def paced(delays: list[float], pace: Pace = Pace()) -> Pace:  # noqa: B008 - immutable
    now_s = 0.0
    for took_s in delays:
        now_s += took_s
        pace = rules.came(pace, took_s, now_s)
    return pace


@given(delays)
def test_the_window_is_always_within_its_bounds(delays: list[float]) -> None:
    assert 1 <= paced(delays).window <= rules.MAX_WINDOW


@given(delays)
def test_a_fast_link_comes_to_the_largest_window_whatever_was_before(delays: list[float]) -> None:
    assert paced([0.01] * 2000, paced(delays)).window == rules.MAX_WINDOW


@given(delays)
def test_a_slow_link_comes_to_a_single_chunk_whatever_was_before(delays: list[float]) -> None:
    before = replace(paced(delays), halved_s=float("-inf"))
    assert paced([3.0] * 20, before).window == 1


def test_chunks_that_were_late_together_halve_the_window_once() -> None:
    pace = Pace(window=16)
    for _ in range(16):
        pace = rules.came(pace, 2.0, 100.0)
    assert pace.window == 8


def test_on_a_slow_link_the_window_settles_where_chunks_come_neither_soon_nor_late() -> None:
    """A link of 8 chunks a second: each takes as long as those before it in the window."""
    pace, now_s = Pace(), 0.0
    for _ in range(3000):
        now_s += 1 / 8
        pace = rules.came(pace, int(pace.window) / 8, now_s)
    assert rules.SOON_S <= int(pace.window) / 8 <= rules.LATE_S


@given(delays.filter(bool))
def test_patience_is_more_than_a_chunk_takes_and_has_an_end(delays: list[float]) -> None:
    pace = paced(delays)
    assert min(pace.took_s, rules.LONGEST_PATIENCE_S) <= pace.patience_s(99) <= rules.LONGEST_PATIENCE_S
    assert Pace().patience_s(99) == 99


@given(st.integers(1, 10**7), st.lists(st.tuples(st.floats(0, 5), st.integers(0, 40)), max_size=40))
def test_no_more_is_asked_for_than_the_rate_allows(rate: int, moments: list[tuple[float, int]]) -> None:
    """At any moment: what the time since the start has earned, what one burst may save up, and the chunk begun."""
    budget, now_s, spent = Budget(rate), 0.0, 0
    for later_s, wanted in moments:
        now_s += later_s
        taken, budget = rules.affordable(budget.at(now_s), [MAX_CHUNK_BYTES] * 40, range(wanted))
        spent += len(taken) * MAX_CHUNK_BYTES
        assert spent <= rate * (now_s + rules.BURST_S) + MAX_CHUNK_BYTES


@given(st.integers(1, 10**7))
def test_whoever_waits_until_the_budget_is_free_gets_the_whole_rate(rate: int) -> None:
    budget = Budget(rate)
    for _ in range(100):
        taken, budget = rules.affordable(budget.at(budget.free_s), [MAX_CHUNK_BYTES], [0])
        assert taken == [0]
    assert budget.at_s == pytest.approx(99 * MAX_CHUNK_BYTES / rate, rel=1e-3)


def test_without_a_rate_everything_is_affordable() -> None:
    taken, budget = rules.affordable(Budget(0).at(5), [MAX_CHUNK_BYTES] * 40, range(40))
    assert taken == list(range(40))
    assert budget.free_s == 5


def artifact(**changes: object) -> Artifact:
    values: dict[str, object] = {
        "digest": bytes(32),
        "size": 10,
        "compression": COMPRESSION_NONE,
        "chunks": [ChunkRef(digest=bytes(32), size=10)],
    }
    return Artifact(**values | changes)  # type: ignore[arg-type]


def test_a_plan_has_each_chunks_digest_and_size() -> None:
    assert rules.plan(artifact()) == Download((bytes(32),), (10,))


@pytest.mark.parametrize(
    "wrong",
    [
        artifact(digest=b"short"),
        artifact(size=0),
        artifact(size=MAX_ARTIFACT_BYTES + 1),
        artifact(compression=COMPRESSION_UNSPECIFIED),
        artifact(compression=9),
        artifact(chunks=[]),
        artifact(chunks=[ChunkRef(digest=bytes(31), size=1)]),
        artifact(chunks=[ChunkRef(digest=bytes(32), size=0)]),
        artifact(chunks=[ChunkRef(digest=bytes(32), size=MAX_CHUNK_BYTES + 1)]),
    ],
)
def test_what_no_device_can_fetch_is_rejected_before_anything_is_asked_for(wrong: Artifact) -> None:
    with pytest.raises(Rejected):
        rules.plan(wrong)


@given(some_chunks, st.data())
def test_what_is_wanted_is_each_missing_chunk_by_its_digest(chunks: list[bytes], data: st.DataObject) -> None:
    download = download_of(chunks)
    for index in data.draw(st.sets(st.integers(0, len(chunks) - 1))):
        download, _ = rules.accept(download, index, chunks[index])
    wanted = rules.wanted(download)
    assert sorted(index for indices in wanted.values() for index in indices) == list(download.missing)
    assert all(hashlib.sha256(chunks[index]).digest() == digest for digest in wanted for index in wanted[digest])


def patch(base: int, size: int, kind: PatchKind = PATCH_KIND_DIFFERENCE) -> Patch:
    return Patch(base=bytes([base]) * 32, digest=bytes(32), kind=kind, chunks=[ChunkRef(size=size)] if size else [])


ONE, TWO = b"\1" * 32, b"\2" * 32


def test_the_shortest_patch_from_what_is_here_is_chosen() -> None:
    whole = artifact(chunks=[ChunkRef(size=100)], patches=[patch(1, 30), patch(2, 20), patch(3, 10)])
    assert rules.choose_patch(whole, {ONE, TWO}) == whole.patches[1]


@pytest.mark.parametrize(
    "useless",
    [
        patch(3, 10),
        patch(1, 100),
        patch(1, 0),
        patch(1, 10, PATCH_KIND_UNSPECIFIED),
        patch(1, 10, 99),  # type: ignore[arg-type]
        Patch(base=ONE, digest=b"short", kind=PATCH_KIND_DIFFERENCE, chunks=[ChunkRef(size=10)]),
    ],
)
def test_a_patch_from_what_is_not_here_of_unknown_form_or_no_shorter_is_not_chosen(useless: Patch) -> None:
    assert rules.choose_patch(artifact(chunks=[ChunkRef(size=100)], patches=[useless]), {ONE, TWO}) is None
