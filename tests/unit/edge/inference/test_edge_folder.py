"""A watched folder: its files become results, once, whatever is killed in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.inference.entities import Answers, Blueprint
from edge.inference.folder import REFUSED, TAKEN, Folder
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.kit.columns import decode
from protos.v1.manifest_pb2 import Preprocessing
from tests import in_thread, tiny_models
from tests.crashes import each_kill
from tests.in_thread import rehearsal

pytestmark = pytest.mark.forks


class FirstPixel:
    frame_shape = tiny_models.FRAME_SHAPE
    busy_ns = 0

    def classify(self, frames: NDArray[np.uint8]) -> Answers:
        label = frames.reshape(len(frames), -1)[:, 0].astype(np.uint16)
        return Answers(label, np.ones(len(frames), np.float32))


def put(folder: Path, name: str, *labels: int) -> None:
    hidden = folder / f".{name}"
    hidden.write_bytes(b"".join(bytes([label, 0, 0, 0]) for label in labels))
    hidden.replace(folder / name)


def live(home: Path, over: Callable[[Path], bool], model: Blueprint | None = None) -> None:
    """One life of an agent that watches `home / "in"`, until it is over."""

    async def life() -> None:
        outbox = Outbox.open(home / "outbox.db", 1 << 30)
        inference = Inference(outbox, start=in_thread.start)
        tasks = [
            asyncio.create_task(inference.run()),
            asyncio.create_task(Folder(home / "in", "folder", inference).run()),
        ]
        await inference.use(model or rehearsal(FirstPixel()))
        while not over(home / "in"):
            assert not any(task.done() for task in tasks)
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        outbox.close()

    asyncio.run(life())


def is_empty(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.is_file() and REFUSED not in path.parts]


def results(home: Path) -> list[tuple[int, int]]:
    """Frame number and label of all that is stored."""
    outbox = Outbox.open(home / "outbox.db", 1 << 30)
    stored = [decode(batch.payload, batch.count) for batch in outbox.after(0, 10_000)]
    outbox.close()
    return [pair for r in stored for pair in zip(r.frame.tolist(), r.label.tolist(), strict=True)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.inference.folder.LOOK_S", 0.01)


def test_files_become_results_in_the_order_of_their_names_and_are_removed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    put(tmp_path / "in", "b.raw", 3)
    put(tmp_path / "in", "a.raw", 1, 2)
    live(tmp_path, is_empty)
    assert results(tmp_path) == [(1, 1), (2, 2), (3, 3)]


def test_files_that_hold_no_frames_are_set_aside_and_those_behind_them_go_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.raw").write_bytes(b"abc")
    put(tmp_path / "in", "b.raw", 7)
    live(tmp_path, is_empty)
    assert results(tmp_path) == [(1, 7)]
    assert (tmp_path / "in" / REFUSED / "a.raw").read_bytes() == b"abc"


def test_a_file_with_a_name_too_long_to_number_is_set_aside_and_those_behind_it_go_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ("a" * 250)).write_bytes(bytes(4))
    put(tmp_path / "in", "b.raw", 7)
    live(tmp_path, is_empty)
    assert results(tmp_path) == [(1, 7)]
    assert (tmp_path / "in" / REFUSED / ("a" * 250)).exists()


def test_a_file_that_cannot_be_read_is_set_aside_and_those_behind_it_go_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.raw").symlink_to(
        "/proc/self/mem"
    )  # whoever reads it, its first byte is an input/output error
    put(tmp_path / "in", "b.raw", 7)
    live(tmp_path, is_empty)
    assert results(tmp_path) == [(1, 7)]
    assert (tmp_path / "in" / REFUSED / "a.raw").is_symlink()


def test_a_file_whose_frames_the_model_refuses_is_set_aside_and_those_behind_it_go_on(tmp_path: Path) -> None:
    windows = Preprocessing(frame_shape=tiny_models.FRAME_SHAPE, dtype="float32")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.raw").write_bytes(np.full((1, 2, 2), np.nan, "<f4").tobytes())
    (tmp_path / "in" / "b.raw").write_bytes(np.full((1, 2, 2), 7, "<f4").tobytes())
    live(tmp_path, is_empty, replace(rehearsal(FirstPixel()), preprocessing=windows))
    assert results(tmp_path) == [(2, 7)]
    assert [path.name for path in (tmp_path / "in" / REFUSED).iterdir()] == [f"{1:020}-1-a.raw"]


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ".half.raw").write_bytes(bytes(4))
    put(tmp_path / "in", "whole.raw", 1)
    live(tmp_path, lambda folder: [path.name for path in folder.iterdir() if path.is_file()] == [".half.raw"])
    assert (tmp_path / "in" / ".half.raw").exists()


def test_the_folder_is_made_if_it_is_not_there(tmp_path: Path) -> None:
    live(tmp_path, lambda folder: (folder / TAKEN).is_dir())


def test_whenever_the_agent_is_killed_each_frame_has_one_result(tmp_path: Path) -> None:
    lives = iter(range(1000))

    def home() -> Path:
        return tmp_path / str(current)

    def prepare() -> None:
        nonlocal current
        current = next(lives)
        (home() / "in").mkdir(parents=True)
        put(home() / "in", "a.raw", 1, 2)
        put(home() / "in", "b.raw", 3)

    current = 0
    for _ in each_kill(prepare, lambda: live(home(), is_empty)):
        live(home(), is_empty)
        assert results(home()) == [(1, 1), (2, 2), (3, 3)]
