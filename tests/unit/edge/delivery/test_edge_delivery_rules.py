import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery import rules
from edge.delivery.entities import Chunk, Rejected
from edge.delivery.rules import Download
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
    download, asked, now, taken = download_of(chunks), dict[int, float](), 0.0, 0
    while not download.complete:
        asked |= dict.fromkeys(rules.next_wanted(download, asked, window), now)
        assert 0 < len(asked) <= window
        now += 1
        sent = [*asked, *rules.overdue(asked, now, 1)]
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
    assert rules.next_wanted(download, [2, 5], 4) == [3, 4]
    assert rules.next_wanted(download, [2, 3, 4, 5, 6], 4) == []
    assert rules.next_wanted(download, [], 99) == list(range(2, 10))


def test_overdue_is_what_was_asked_for_long_enough_ago() -> None:
    assert rules.overdue({7: 0.0, 1: 1.0, 2: 1.5}, now_s=3.0, patience_s=2.0) == [1, 7]


@given(st.sets(st.integers(0, 99)), st.integers(100, 120))
def test_a_bitmap_has_one_bit_for_each_chunk(indices: set[int], chunks: int) -> None:
    bits = rules.bitmap(indices, chunks)
    assert len(bits) == (chunks + 7) // 8
    assert {i for i in range(len(bits) * 8) if bits[i // 8] >> i % 8 & 1} == indices


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_patience_grows_and_has_an_end(repairs: int, randomness: float) -> None:
    patience = rules.patience(2, repairs, randomness)
    assert 2 <= patience <= rules.LONGEST_PATIENCE_S * 1.5
    assert rules.patience(2, repairs + 1, randomness) >= patience


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
