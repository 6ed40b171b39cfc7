"""A real video through OpenCV: a file picture by picture, and a stream that does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.foundation.settings import EdgeSettings
from edge.inference import local
from edge.inference.entities import Blueprint, Limits
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.kit import columns
from tests import durable, in_thread, tiny_models
from tests.waiting import eventually

GOOD = tiny_models.int8(tiny_models.weights())
HEIGHT, WIDTH = 48, 96
Scene = Callable[[Inference, list[tuple[int, int]]], Awaitable[None]]


def video(path: Path, labels: list[int]) -> Path:
    """One picture for each label: its quarter of the middle is bright."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for label in labels:
        picture = np.full((HEIGHT, WIDTH, 3), 10, np.uint8)
        top, left = (label // 2) * HEIGHT // 2, WIDTH // 4 + (label % 2) * WIDTH // 4
        picture[top : top + HEIGHT // 2, left : left + WIDTH // 4] = 240
        writer.write(picture)
    writer.release()
    return path


def blueprint(folder: Path) -> Blueprint:
    manifest = tiny_models.manifest({"int8": GOOD})
    file = folder / "model.tflite"
    file.write_bytes(GOOD)
    return Blueprint(file, manifest.variants[0], manifest.preprocessing, 1, bytes(32), "tiny", 7)


def live(folder: Path, camera: str, scene: Scene, limits: Limits | None = None) -> list[tuple[int, int]]:
    """One life of a device with this camera. Returns frame and label of each durable result."""
    found: list[tuple[int, int]] = []

    def take(batch: Any) -> None:
        results = columns.decode(batch.payload, batch.count)
        found.extend(zip(results.frame.tolist(), results.label.tolist(), strict=True))

    async def main() -> None:
        outbox = Outbox.open(folder / "outbox.db", 1 << 30)
        inference = Inference(outbox, limits or Limits(batch_frames=16), in_thread.start)
        inference.on_results(take)
        await inference.use(blueprint(folder))
        work = [inference.run(), *local.ends(EdgeSettings(dir=folder, camera=camera), inference).tasks.values()]
        running = [asyncio.create_task(one) for one in work]
        await scene(inference, found)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        outbox.close()

    asyncio.run(main())
    return found


def until(count: int) -> Scene:
    async def scene(_: Inference, found: list[tuple[int, int]]) -> None:
        await eventually(lambda: len(found) >= count)

    return scene


def test_each_picture_of_a_file_is_answered_once_however_often_the_agent_ends(tmp_path: Path) -> None:
    labels = np.random.default_rng(3).integers(0, 4, 150).tolist()
    path = video(tmp_path / "seen.avi", labels)
    lives = 0
    while len(durable.results(tmp_path / "outbox.db") if lives else ()) < len(labels):
        live(tmp_path, str(path), until(1))
        lives += 1
    assert lives > 1, "nothing was cut off: the video is too short for this machine"
    found = durable.results(tmp_path / "outbox.db")
    assert [frame for frame, _ in found] == list(range(1, 151))
    assert [label for _, label in found] == labels


def test_a_file_that_is_done_is_not_begun_again_but_another_one_is(tmp_path: Path) -> None:
    path = video(tmp_path / "seen.avi", [0, 1])
    assert len(live(tmp_path, str(path), until(2))) == 2

    async def wait(_: Inference, __: list[tuple[int, int]]) -> None:
        await asyncio.sleep(0.5)

    assert live(tmp_path, str(path), wait) == []
    other = video(tmp_path / "other.avi", [3, 2])
    assert live(tmp_path, str(other), until(2)) == [(3, 3), (4, 2)]


def test_a_stream_is_not_waited_for_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    labels = [place % 4 for place in range(400)]
    video(tmp_path / "seen.avi", labels)
    counted: dict[str, int] = {}

    async def scene(inference: Inference, found: list[tuple[int, int]]) -> None:
        await eventually(lambda: bool(found) and found[-1][0] == len(labels))
        counted.update(dropped=inference.dropped, inferred=inference.inferences)

    # OpenCV's name for a run of pictures, here with one only: it is a stream to the agent, since no file has this name.
    found = live(tmp_path, f"file:{tmp_path / 'seen.avi'}", scene, Limits(batch_frames=1, queue_frames=4))
    assert counted["inferred"] + counted["dropped"] == len(labels)
    assert [labels[frame - 1] for frame, _ in found] == [label for _, label in found]


def test_a_camera_that_is_not_there_is_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.inference.camera.RETRY_S", 0.05)
    path = tmp_path / "seen.avi"

    async def scene(_: Inference, found: list[tuple[int, int]]) -> None:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(lambda: video(tmp_path / "new.avi", [1]).replace(path))
        await eventually(lambda: bool(found))

    assert live(tmp_path, str(path), scene) == [(1, 1)]
