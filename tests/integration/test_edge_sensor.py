"""A sensor's numbers, from a serial port, file, FIFO or standard input, through a real 1-D CNN to durable results."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cloud.training.evaluation import judge
from edge.foundation.settings import EdgeSettings
from edge.inference import local
from edge.inference.entities import Blueprint, Limits
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.kit import columns
from protos.kit.columns import Results
from tests import durable, waves
from tests.waves import LENGTH, PREPROCESSING

pytestmark = pytest.mark.timeout(120)

VARIANTS = ("float32", "int8")


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    return waves.models()


def blueprint(folder: Path, models: dict[str, bytes], name: str = "int8", version: int = 1) -> Blueprint:
    frames, labels = waves.windows(2, seed=3)
    variant = judge(name, models[name], frames, labels, steps=PREPROCESSING).variant
    file = folder / f"{name}.tflite"
    file.write_bytes(models[name])
    return Blueprint(file, variant, PREPROCESSING, 1, bytes([version] * 32), "waves", version)


class Device:
    """An agent's inference with a sensor, for as long as the block lasts. results: what became durable, in order."""

    def __init__(self, settings: EdgeSettings, inference: Inference) -> None:
        self.settings = settings
        self.inference = inference
        self.results: list[Results] = []
        inference.on_results(lambda batch: self.results.append(columns.decode(batch.payload, batch.count)))

    @property
    def labels(self) -> list[int]:
        return [int(label) for results in self.results for label in results.label]

    @property
    def frames(self) -> list[int]:
        return [int(frame) for results in self.results for frame in results.frame]

    async def until(self, count: int) -> None:
        while len(self.labels) < count:  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.01)


def live(
    folder: Path, wanted: Blueprint | None, scene: Callable[[Device], Awaitable[None]], **settings: object
) -> Device:
    """One life of a device, whose sensor is cut off at its end as a kill would, with what it has in hand."""

    async def main() -> Device:
        outbox = Outbox.open(folder / "outbox.db", 1 << 30)
        device = Device(EdgeSettings(dir=folder, **settings), Inference(outbox, Limits(batch_frames=64)))
        if wanted:
            await device.inference.use(wanted)
        work = [device.inference.run(), *local.ends(device.settings, device.inference).tasks.values()]
        running = [asyncio.create_task(one) for one in work]
        try:
            await scene(device)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            outbox.close()
        return device

    return asyncio.run(main())


@contextmanager
def serial_port() -> Iterator[tuple[int, Path]]:
    """The sensor's end, and the device's as a path."""
    sensor, port = os.openpty()
    tty.setraw(sensor)
    try:
        yield sensor, Path(os.ttyname(port))
    finally:
        os.close(sensor)
        os.close(port)


@pytest.mark.parametrize("name", VARIANTS)
def test_waves_on_a_serial_port_are_told_apart(tmp_path: Path, models: dict[str, bytes], name: str) -> None:
    randomness = np.random.default_rng(7)
    wanted = [2, 0, 1, 1, 2, 0]

    with serial_port() as (sensor, port):

        async def scene(device: Device) -> None:
            await asyncio.sleep(0.5)  # what comes before the port is opened is not kept
            for done, label in enumerate(wanted, start=1):
                text = waves.text(waves.samples(label, LENGTH, randomness))
                for start in range(0, len(text), 100):  # a sensor writes as it measures
                    os.write(sensor, text[start : start + 100])
                    await asyncio.sleep(0)
                await device.until(done)

        device = live(tmp_path, blueprint(tmp_path, models, name), scene, sensor=port, sensor_baud=115200)
    assert device.labels == wanted
    assert device.frames == [1, 2, 3, 4, 5, 6]


def test_a_port_that_is_pulled_out_and_comes_back_is_read_again(
    tmp_path: Path, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.inference.sensor.RETRY_S", 0.05)
    randomness, link = np.random.default_rng(7), tmp_path / "port"

    async def plug_in(device: Device, label: int, count: int) -> None:
        with serial_port() as (sensor, port):
            link.unlink(missing_ok=True)
            link.symlink_to(port)
            while len(device.labels) < count:
                os.write(sensor, waves.text(waves.samples(label, LENGTH, randomness)))
                await asyncio.sleep(0.1)

    async def scene(device: Device) -> None:
        await plug_in(device, 0, 1)
        before = len(device.labels)
        await plug_in(device, 2, before + 3)

    device = live(tmp_path, blueprint(tmp_path, models), scene, sensor=link)
    assert device.labels[0] == 0
    assert device.labels[-1] == 2


def test_a_file_is_gone_on_with_after_each_end_and_no_window_is_lost_or_doubled(
    tmp_path: Path, models: dict[str, bytes]
) -> None:
    file, count = tmp_path / "measured.csv", 4_000
    randomness = np.random.default_rng(6)
    measured = b"".join(waves.text(waves.samples(place % 3, 500, randomness)) for place in range(count // 500))
    file.write_bytes(b"x,y\n" + measured)
    total = count - LENGTH + 1

    async def until_all_are_done(device: Device) -> None:
        await device.until(total)

    async def until_some_are_done(device: Device) -> None:
        await device.until(1)

    cut_off, at_once = tmp_path / "cut off", tmp_path / "at once"
    cut_off.mkdir()
    at_once.mkdir()
    lives = 0
    while len(durable.results(cut_off / "outbox.db") if lives else ()) < total:
        live(cut_off, blueprint(tmp_path, models), until_some_are_done, sensor=file, sensor_hop=1)
        lives += 1
    assert lives > 1, "nothing was cut off: the file is too short for this machine"
    live(at_once, blueprint(tmp_path, models), until_all_are_done, sensor=file, sensor_hop=1)
    found = durable.results(cut_off / "outbox.db")
    assert [frame for frame, _ in found] == list(range(1, total + 1))
    assert found == durable.results(at_once / "outbox.db")


def test_windows_overlap_by_the_hop_and_lines_that_come_later_count(tmp_path: Path, models: dict[str, bytes]) -> None:
    file = tmp_path / "measured.csv"
    text = waves.text(waves.samples(1, 2 * LENGTH, np.random.default_rng(6)))
    file.write_bytes(text[:1000])

    async def scene(device: Device) -> None:
        await asyncio.sleep(0.3)
        with file.open("ab") as more:
            more.write(text[1000:])
        await device.until(5)

    device = live(tmp_path, blueprint(tmp_path, models), scene, sensor=file, sensor_hop=LENGTH // 4)
    assert device.labels == [1] * 5


def test_a_file_that_takes_the_name_of_the_one_read_is_read_next(tmp_path: Path, models: dict[str, bytes]) -> None:
    file, randomness = tmp_path / "measured.csv", np.random.default_rng(6)

    def rotate(label: int) -> None:
        (tmp_path / "next").write_bytes(waves.text(waves.samples(label, LENGTH, randomness)))
        (tmp_path / "next").replace(file)

    async def scene(device: Device) -> None:
        for done, label in enumerate((0, 2, 1), start=1):
            rotate(label)
            await device.until(done)

    rotate(0)
    assert live(tmp_path, blueprint(tmp_path, models), scene, sensor=file).labels[-2:] == [2, 1]


def test_a_fifo_stays_open_when_its_writers_come_and_go(tmp_path: Path, models: dict[str, bytes]) -> None:
    fifo, randomness = tmp_path / "measured", np.random.default_rng(6)
    os.mkfifo(fifo)

    async def scene(device: Device) -> None:
        for done, label in enumerate((0, 2, 1), start=1):
            text = waves.text(waves.samples(label, LENGTH, randomness))
            await asyncio.to_thread(fifo.write_bytes, text)
            await device.until(done)

    assert live(tmp_path, blueprint(tmp_path, models), scene, sensor=fifo).labels == [0, 2, 1]


def test_columns_choose_what_the_model_gets(tmp_path: Path, models: dict[str, bytes]) -> None:
    file = tmp_path / "measured.csv"
    values = waves.samples(2, LENGTH, np.random.default_rng(6))
    file.write_text("time,y,x\n" + "".join(f"12:00:{row},{y},{x}\n" for row, (x, y) in enumerate(values)))

    async def scene(device: Device) -> None:
        await device.until(1)

    assert live(tmp_path, blueprint(tmp_path, models), scene, sensor=file, sensor_columns="3,2").labels == [2]


def test_what_waits_for_a_model_is_read_when_it_comes(tmp_path: Path, models: dict[str, bytes]) -> None:
    file = tmp_path / "measured.csv"
    file.write_bytes(waves.text(waves.samples(1, LENGTH, np.random.default_rng(6))))

    async def scene(device: Device) -> None:
        await asyncio.sleep(0.3)
        await device.inference.use(blueprint(tmp_path, models, "float32"))
        await device.until(1)

    assert live(tmp_path, None, scene, sensor=file).labels == [1]


def test_standard_input_is_read_to_its_end(
    tmp_path: Path, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr("sys.stdin", os.fdopen(reading))
    os.write(writing, waves.text(waves.samples(2, LENGTH, np.random.default_rng(6))).removesuffix(b"\n"))
    os.close(writing)

    async def scene(device: Device) -> None:
        await device.until(1)

    assert live(tmp_path, blueprint(tmp_path, models), scene, sensor="-").labels == [2]
