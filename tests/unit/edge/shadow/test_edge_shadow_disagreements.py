"""Frames on which two models disagree, kept within a bound."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.shadow.disagreements import AT_ONCE, Folder
from protos.kit.columns import Results


def results(first: int, n: int, label: int) -> Results:
    numbers = np.arange(first, first + n)
    return Results(
        "digits", label, bytes(32), "cam", numbers.astype(np.uint64), numbers, np.full(n, label, np.uint16),
        np.full(n, 0.5, np.float32), np.zeros(n, np.uint32),
    )  # fmt: skip


def keep(folder: Folder, first: int, n: int = 1) -> None:
    folder(np.full((n, 4), first % 256, np.uint8), results(first, n, 1), results(first, n, 2))


def written(folder: Folder) -> None:
    asyncio.run(folder.write())


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.exists() else 0


def test_a_file_has_the_frames_and_what_both_said(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "kept", 1 << 20)
    keep(folder, 7, 3)
    written(folder)
    (file,) = (tmp_path / "kept").iterdir()
    found = np.load(file, allow_pickle=False)
    assert found["pixels"].tolist() == [[7] * 4] * 3
    assert (str(found["source"]), found["frame"].tolist()) == ("cam", [7, 8, 9])
    assert (str(found["champion"]), str(found["challenger"])) == ("digits 1", "digits 2")
    assert (found["champion_label"].tolist(), found["challenger_label"].tolist()) == ([1] * 3, [2] * 3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, AT_ONCE), min_size=1, max_size=8), st.integers(0, 20_000))
def test_the_folder_never_has_more_bytes_than_it_may(tmp_path_factory: object, counts: list[int], most: int) -> None:
    path = tmp_path_factory.mktemp("kept") / "frames"  # type: ignore[attr-defined]
    folder = Folder(path, most)
    for place, count in enumerate(counts):
        keep(folder, place, count)
        written(folder)
        assert size_of(path) <= most


def test_the_oldest_go_first_also_after_a_restart(tmp_path: Path) -> None:
    keep(folder := Folder(tmp_path, 1 << 20), 1)
    written(folder)
    one = size_of(tmp_path)
    for first in range(2, 6):
        keep(folder := Folder(tmp_path, 3 * one + 100), first)
        written(folder)
    kept = [int(np.load(file)["frame"][0]) for file in sorted(tmp_path.iterdir())]
    assert kept == [3, 4, 5]


def test_between_two_writes_only_some_are_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path, 1 << 20)
    for first in range(1, 200, 10):
        keep(folder, first, 10)
    written(folder)
    assert sum(len(np.load(file)["frame"]) for file in tmp_path.iterdir()) == AT_ONCE


def test_without_room_nothing_is_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "kept", 0)
    keep(folder, 1)
    written(folder)
    assert not (tmp_path / "kept").exists()


def test_a_disk_that_takes_nothing_costs_these_frames_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    folder = Folder(tmp_path / "kept", 1 << 20)
    keep(folder, 1)
    written(folder)
    os.remove(tmp_path / "kept")  # noqa: PTH107 - said as the operator would
    keep(folder, 2)
    written(folder)
    assert [np.load(file)["frame"].tolist() for file in (tmp_path / "kept").iterdir()] == [[2]]
