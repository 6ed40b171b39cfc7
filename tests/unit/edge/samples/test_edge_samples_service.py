"""Frames that policies want are on the disk with their results, and budgets hold over restarts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge.samples.entities import Reason, SamplesFailed
from edge.samples.service import Sampler
from edge.samples.store import SampleStore
from protos.v1.samples_pb2 import SampleOffer, SamplePolicies
from tests.samples_kit import FRAME_BYTES, answered, pictures, policies, results

DAY_MS = 86_400_000
ROOM = 1 << 20


@contextmanager
def store_in(folder: Path) -> Iterator[SampleStore]:
    with closing(SampleStore.open(folder / "samples.sqlite")) as store:
        yield store


def sample(
    folder: Path, work: Callable[[Sampler], None], said: SamplePolicies | None, day: int = 20_000, room: int = ROOM
) -> list[tuple[SampleOffer, bytes]]:
    """One life of a sampler; what is kept afterwards."""

    async def main(store: SampleStore) -> None:
        sampler = Sampler(store, "edge-1", room, lambda: day * DAY_MS)
        if said is not None:
            await sampler.follow(said)
        writing = asyncio.create_task(sampler.run())
        work(sampler)
        await sampler.written()
        writing.cancel()
        await asyncio.wait({writing})

    with store_in(folder) as store:
        asyncio.run(main(store))
        return kept_in(store)


def kept_in(store: SampleStore) -> list[tuple[SampleOffer, bytes]]:
    return [(SampleOffer.FromString(kept.about), store.piece(kept.id, 0, kept.size)) for kept in store.after(0, 1000)]


def take(confidence: list[float], first_frame: int = 1) -> Callable[[Sampler], None]:
    frames = pictures(len(confidence), first_frame)
    return lambda sampler: sampler.take(answered(results(confidence, first_frame), frames))


def test_unsure_frames_are_kept_with_their_results(tmp_path: Path) -> None:
    kept = sample(tmp_path, take([0.9, 0.4, 0.8, 0.2, 0.7]), policies())
    assert [(about.frame, about.label, about.reason) for about, _ in kept] == [
        (4, 0, "low confidence"),
        (2, 1, "low confidence"),
    ]
    for about, pixels in kept:
        assert pixels == pictures(5)[about.frame - 1].tobytes()
        assert about.digest == hashlib.sha256(pixels).digest()
        assert (about.source, about.model, about.version, about.size) == ("camera", "digits", 1, FRAME_BYTES)
        assert about.captured_us == 1_700_000_000_000_000 + about.frame - 1


@pytest.mark.parametrize("said", [SamplePolicies(), policies(model="faces"), policies(below=0, disagreement=True)])
def test_nothing_is_kept_that_no_policy_wants(tmp_path: Path, said: SamplePolicies) -> None:
    assert sample(tmp_path, take([0.1, 0.1]), said) == []


def test_policies_hold_after_a_restart_without_the_cloud(tmp_path: Path) -> None:
    assert sample(tmp_path, lambda _: None, policies()) == []
    assert len(sample(tmp_path, take([0.1]), None)) == 1
    assert len(sample(tmp_path, take([0.1], 2), SamplePolicies())) == 1


def test_disagreements_are_kept_for_whoever_finds_them(tmp_path: Path) -> None:
    said = policies(below=0, disagreement=True)
    given = list[int]()

    def work(sampler: Sampler) -> None:
        given.append(sampler.keep(pictures(2), results([0.9, 0.8])))
        given.append(sampler.keep(pictures(2), results([0.9, 0.8], model="faces")))

    kept = sample(tmp_path, work, said)
    assert given == [2, 0]
    assert [(about.frame, about.reason) for about, _ in kept] == [(2, Reason.DISAGREEMENT), (1, Reason.DISAGREEMENT)]


def test_the_budget_of_a_day_holds_over_restarts_and_the_next_day_has_its_own(tmp_path: Path) -> None:
    said = policies(bytes_per_day=3 * FRAME_BYTES + 5)
    assert len(sample(tmp_path, take([0.1, 0.2]), said)) == 2
    assert len(sample(tmp_path, take([0.1, 0.2], 3), None)) == 3
    assert len(sample(tmp_path, take([0.1, 0.2], 5), None)) == 3
    assert len(sample(tmp_path, take([0.1, 0.2], 7), None, day=20_001)) == 5
    assert len(sample(tmp_path, take([0.1, 0.2], 9), None, day=20_000)) == 5, "a clock that jumps back brings nothing"


def test_a_budget_is_not_got_back_by_sending(tmp_path: Path) -> None:
    said = policies(bytes_per_day=FRAME_BYTES)
    assert len(sample(tmp_path, take([0.1]), said)) == 1
    with store_in(tmp_path) as store:
        assert store.remove(store.after(0, 1)[0].id) == FRAME_BYTES
    assert sample(tmp_path, take([0.1], 2), None) == []


def test_a_policy_changed_while_it_runs_counts_at_once_and_its_spending_stays(tmp_path: Path) -> None:
    said = policies(bytes_per_day=2 * FRAME_BYTES)
    assert len(sample(tmp_path, take([0.1, 0.9]), said)) == 1
    wider = policies(bytes_per_day=2 * FRAME_BYTES, below=0.95)
    assert len(sample(tmp_path, take([0.9, 0.9], 3), wider)) == 2


def test_what_waits_is_bounded_and_the_oldest_stay(tmp_path: Path) -> None:
    kept = sample(tmp_path, take([0.3, 0.2, 0.1]), policies(), room=2 * FRAME_BYTES)
    assert [about.frame for about, _ in kept] == [3, 2]
    kept = sample(tmp_path, take([0.0], 4), None, room=2 * FRAME_BYTES)
    assert [about.frame for about, _ in kept] == [3, 2]


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    sample(tmp_path, take([0.1]), policies())
    (tmp_path / "samples.sqlite").write_bytes(b"no database at all" * 100)
    assert len(sample(tmp_path, take([0.1, 0.1]), policies())) == 2
    assert (tmp_path / "samples.sqlite.damaged").exists()


def test_a_disk_that_refuses_costs_samples_and_gives_their_budget_back(tmp_path: Path) -> None:
    def work(sampler: Sampler) -> None:
        sampler._store._database.execute("PRAGMA query_only = ON")
        take([0.1])(sampler)

    said = policies(bytes_per_day=FRAME_BYTES)
    assert sample(tmp_path, lambda _: None, said) == []
    assert sample(tmp_path, work, None) == []
    assert len(sample(tmp_path, take([0.1], 2), None)) == 1


def test_a_second_process_is_told_so(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.follow(b"")
        with pytest.raises(SamplesFailed, match="locked"):
            SampleStore.open(tmp_path / "samples.sqlite")


def test_frame_columns_are_copied_so_that_the_source_may_use_its_memory_again(tmp_path: Path) -> None:
    frames = pictures(2)
    before = np.copy(frames)

    def work(sampler: Sampler) -> None:
        sampler.take(answered(results([0.1, 0.2]), frames))
        frames[:] = 0

    assert [pixels for _, pixels in sample(tmp_path, work, policies())] == [row.tobytes() for row in before]
