"""Results for the device itself, and that no sink can slow or stop the agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge.inference import sinks
from edge.inference.sinks import Sink, as_json, to_file
from edge.uplink.entities import NewBatch
from protos.kit import columns
from protos.kit.columns import Results


def results(first: int, count: int = 2) -> Results:
    return Results(
        model="digits",
        version=3,
        manifest=bytes(32),
        source="cam",
        frame=np.arange(first, first + count, dtype=np.uint64),
        captured_us=np.full(count, 1000, np.int64),
        label=np.full(count, 7, np.uint16),
        confidence=np.full(count, 0.123456, np.float32),
        latency_us=np.zeros(count, np.uint32),
    )


def batch(first: int) -> NewBatch:
    return NewBatch(2, columns.encode(results(first)), "cam", first + 1)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the state is polled as a person would look at it
        await asyncio.sleep(0)


def test_a_result_as_json_names_its_frame_its_model_and_its_answer() -> None:
    names = {"source": "cam", "slot": "default", "model": "digits", "version": 3}
    answer = {"captured_us": 1000, "label": 7, "confidence": 0.1235}
    assert as_json(results(5)) == [{**names, "frame": frame, **answer} for frame in (5, 6)]


def test_a_file_gets_a_line_for_each_result(tmp_path: Path) -> None:
    async def main() -> None:
        write = to_file(tmp_path / "results.jsonl")
        await write(results(1))
        await write(results(3))

    asyncio.run(main())
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [1, 2, 3, 4]


def test_a_sink_that_is_too_slow_loses_the_oldest_and_counts_them() -> None:
    written: list[int] = []
    over = sinks.WAITING + 10

    async def write(found: Results) -> None:
        written.append(int(found.frame[0]))

    async def main() -> Sink:
        sink = Sink("slow", write)
        for place in range(over):
            sink.offer(batch(1 + 2 * place))
        running = asyncio.create_task(sink.run())
        await until(lambda: len(written) == sinks.WAITING)
        running.cancel()
        return sink

    assert asyncio.run(main()).dropped == 10
    assert written == [1 + 2 * place for place in range(10, over)]


def test_a_sink_that_fails_loses_that_batch_and_goes_on() -> None:
    written: list[int] = []

    async def write(found: Results) -> None:
        if found.frame[0] == 3:
            raise OSError("no room")
        written.append(int(found.frame[0]))

    async def main() -> Sink:
        sink = Sink("failing", write)
        running = asyncio.create_task(sink.run())
        for first in (1, 3, 5):
            sink.offer(batch(first))
        await until(lambda: len(written) == 2)
        running.cancel()
        return sink

    assert asyncio.run(main()).dropped == 1
    assert written == [1, 5]


def test_frames_without_results_are_not_written() -> None:
    async def write(_: Results) -> None:
        raise AssertionError("there is nothing to write")

    async def main() -> Sink:
        sink = Sink("idle", write)
        sink.offer(NewBatch(0, b"", "cam", 9))
        running = asyncio.create_task(sink.run())
        await asyncio.sleep(0.01)
        running.cancel()
        return sink

    assert asyncio.run(main()).dropped == 0
