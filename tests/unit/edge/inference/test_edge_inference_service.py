"""From frames to durable results, with a real outbox and a real engine."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.inference.entities import Answers, Blueprint, FrameRun, Limits, Overload, Reply, SourceBusy
from edge.inference.intake import Intake
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.kit.columns import Results, decode
from tests import in_thread, tiny_models
from tests.in_thread import rehearsal

DIGEST = b"\1" * 32
FRAME_BYTES = 4


class Rehearsed:
    """A classifier whose label is the frame's first pixel. Faults: it can fail so many times, or wait at a gate."""

    frame_shape = tiny_models.FRAME_SHAPE
    busy_ns = 0

    def __init__(self, failures: int = 0, confidence: float = 0.5) -> None:
        self.failures = failures
        self.confidence = confidence
        self.sizes: list[int] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def classify(self, frames: NDArray[np.uint8]) -> Answers:
        self.entered.set()
        assert self.gate.wait(60)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the interpreter stumbled")
        self.sizes.append(len(frames))
        label = frames.reshape(len(frames), -1)[:, 0].astype(np.uint16)
        return Answers(label, np.full(len(frames), self.confidence, np.float32))


def run_of(first: int, count: int, frame_bytes: int = FRAME_BYTES) -> FrameRun:
    numbers = np.arange(first, first + count)
    pixels = np.repeat(numbers % 256, frame_bytes).astype(np.uint8).reshape(count, frame_bytes)
    return FrameRun(first, pixels, 1_000_000 + numbers.astype(np.int64), taken_ns=0)


def stored(outbox: Outbox) -> list[Results]:
    return [decode(batch.payload, batch.count) for batch in outbox.after(0, 10_000)]


def frames_stored(outbox: Outbox) -> list[int]:
    return [int(frame) for results in stored(outbox) for frame in results.frame]


@asynccontextmanager
async def working(inference: Inference) -> AsyncIterator[None]:
    running = asyncio.create_task(inference.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(intake: Intake, watermark: int) -> list[Reply]:
    replies: list[Reply] = []
    async for reply in intake.replies():
        replies.append(reply)
        if reply.watermark >= watermark:
            break
    return replies


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox.open(tmp_path / "outbox.db", 1 << 30)


def rehearse(outbox: Outbox, play: Callable[[Inference], Awaitable[None]], **sizes: int) -> None:
    async def main() -> None:
        inference = Inference(outbox, Limits(**sizes), in_thread.start)
        async with working(inference):
            await play(inference)

    asyncio.run(main())


def test_frames_become_results_with_everything_that_is_known_of_them(tmp_path: Path, outbox: Outbox) -> None:
    manifest = tiny_models.manifest({"int8": (model := tiny_models.int8(tiny_models.weights()))})
    file = tmp_path / "model.tflite"
    file.write_bytes(model)
    blueprint = Blueprint(file, manifest.variants[0], manifest.preprocessing, 1, DIGEST, "tiny", 3)

    async def play(inference: Inference) -> None:
        await inference.use(blueprint)
        frames = tiny_models.frames().reshape(4, FRAME_BYTES)
        async with inference.intake("cam") as intake:
            captured = np.array([10, 20, 30, 40], np.int64)
            await inference.hand_over(intake, FrameRun(7, frames, captured, taken_ns=0))
            await until(intake, 10)

    rehearse(outbox, play)
    (results,) = stored(outbox)
    assert (results.model, results.version, results.manifest, results.source) == ("tiny", 3, DIGEST, "cam")
    assert results.frame.tolist() == [7, 8, 9, 10]
    assert results.captured_us.tolist() == [10, 20, 30, 40]
    assert results.label.tolist() == [0, 1, 2, 3]
    assert (results.confidence > 0).all()
    assert outbox.source_watermark("cam") == 10


def test_what_waits_is_joined_into_micro_batches_and_acknowledged_after_the_commit(outbox: Outbox) -> None:
    engine = Rehearsed()

    async def play(inference: Inference) -> None:
        async with inference.intake("cam") as intake:
            for first in range(1, 101, 10):
                await inference.hand_over(intake, run_of(first, 10))
            assert outbox.source_watermark("cam") == 0  # no model yet: everything waits
            await inference.use(rehearsal(engine, 1))
            replies = await until(intake, 100)
            assert replies[0] == Reply(0)

    rehearse(outbox, play, batch_frames=64)
    assert engine.sizes == [64, 36]
    assert frames_stored(outbox) == list(range(1, 101))


def test_a_batch_larger_than_a_micro_batch_is_cut(outbox: Outbox) -> None:
    engine = Rehearsed()

    async def play(inference: Inference) -> None:
        await inference.use(rehearsal(engine, 1))
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 150))
            await until(intake, 150)

    rehearse(outbox, play, batch_frames=64)
    assert engine.sizes == [64, 64, 22]
    assert frames_stored(outbox) == list(range(1, 151))


def test_a_gap_in_the_frame_numbers_stays_a_gap(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 2))
            await inference.hand_over(intake, run_of(100, 2))
            await inference.use(rehearsal(Rehearsed(), 1))
            await until(intake, 101)

    rehearse(outbox, play)
    assert frames_stored(outbox) == [1, 2, 100, 101]
    assert len(stored(outbox)) == 1


def test_sources_take_turns(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        async with inference.intake("greedy") as greedy, inference.intake("small") as small:
            await inference.hand_over(greedy, run_of(1, 40))
            await inference.hand_over(small, run_of(1, 10))
            await inference.use(rehearsal(Rehearsed(), 1))
            await until(greedy, 40)
            await until(small, 10)

    rehearse(outbox, play, batch_frames=10)
    assert [results.source for results in stored(outbox)] == ["greedy", "small", "greedy", "greedy", "greedy"]


def test_a_source_that_is_faster_than_the_engine_is_held_back(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 90))
            second = asyncio.create_task(inference.hand_over(intake, run_of(91, 20)))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not second.done()
            await inference.use(rehearsal(Rehearsed(), 1))
            await second
            await until(intake, 110)

    rehearse(outbox, play, queue_frames=100)
    assert frames_stored(outbox) == list(range(1, 111))


def test_old_frames_are_answered_with_the_watermark_and_not_stored_again(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        await inference.use(rehearsal(Rehearsed(), 1))
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 10))
            await until(intake, 10)
            await inference.hand_over(intake, run_of(3, 5))
            assert await until(intake, 10) == [Reply(10)]
            await inference.hand_over(intake, run_of(6, 10))
            await until(intake, 15)

    rehearse(outbox, play)
    assert frames_stored(outbox) == list(range(1, 16))


def test_a_source_that_comes_back_goes_on_from_its_watermark(outbox: Outbox) -> None:
    async def first(inference: Inference) -> None:
        await inference.use(rehearsal(Rehearsed(), 1))
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 10))
            await until(intake, 10)

    async def second(inference: Inference) -> None:
        async with inference.intake("cam") as intake:
            assert await until(intake, 10) == [Reply(10)]

    rehearse(outbox, first)
    rehearse(outbox, second)


def test_a_new_stream_of_a_source_waits_until_nothing_of_the_old_one_is_in_work(outbox: Outbox) -> None:
    engine = Rehearsed()

    async def play(inference: Inference) -> None:
        engine.gate.clear()
        await inference.use(rehearsal(engine, 1))
        async with inference.intake("cam") as old:
            await inference.hand_over(old, run_of(1, 10))
            await inference.hand_over(old, run_of(11, 10))
            await asyncio.to_thread(engine.entered.wait)
        opening = inference.intake("cam")
        entering = asyncio.ensure_future(opening.__aenter__())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not entering.done()
        engine.gate.set()
        new = await entering
        start = new.watermark
        assert start == outbox.source_watermark("cam")
        await inference.hand_over(new, run_of(start + 1, 30 - start))
        await until(new, 30)
        await opening.__aexit__(None, None, None)

    rehearse(outbox, play, batch_frames=10)
    assert frames_stored(outbox) == list(range(1, 31))


@pytest.mark.parametrize(("sizes", "with_it"), [([10] * 6, 40), ([9] * 3, 18)], ids=["full", "small"])
def test_full_micro_batches_are_with_a_fast_model_long_before_it_comes_to_them(
    outbox: Outbox, sizes: list[int], with_it: int
) -> None:
    engine = Rehearsed()

    async def play(inference: Inference) -> None:
        engine.gate.clear()
        await inference.use(rehearsal(engine, 1))
        async with inference.intake("cam") as intake:
            for size in sizes:
                await inference.hand_over(intake, run_of(intake.accepted + 1, size))
                await asyncio.sleep(0.01)  # for the service to see it
            assert intake.in_work == with_it
            engine.gate.set()
            await until(intake, intake.accepted)

    rehearse(outbox, play, batch_frames=10)


def test_a_second_stream_of_a_source_is_refused(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.inference.service.PARTING_S", 0.01)

    async def play(inference: Inference) -> None:
        async with inference.intake("cam"):
            with pytest.raises(SourceBusy, match="cam"):
                async with inference.intake("cam"):
                    pass
        async with inference.intake("cam"):
            pass

    rehearse(outbox, play)


def test_a_source_that_comes_back_before_its_end_was_noticed_is_let_in(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        opening = inference.intake("cam")
        async with inference.intake("cam") as old:
            entering = asyncio.ensure_future(opening.__aenter__())
            await asyncio.sleep(0)
        assert await entering is not old
        await opening.__aexit__(None, None, None)

    rehearse(outbox, play)


def test_a_swap_of_models_loses_no_frame_and_doubles_none(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        async with inference.intake("cam") as intake:
            for version in range(1, 41):
                await inference.use(rehearsal(Rehearsed(), version))
                await inference.hand_over(intake, run_of(version * 25 - 24, 25))
                await asyncio.sleep(0)
            await until(intake, 1000)

    rehearse(outbox, play, batch_frames=10)
    assert frames_stored(outbox) == list(range(1, 1001))
    versions = [results.version for results in stored(outbox)]
    assert versions == sorted(versions)


def test_without_a_model_again_frames_wait_for_the_next(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        await inference.use(rehearsal(Rehearsed(), 1))
        inference.withdraw()
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 5))
            for _ in range(5):
                await asyncio.sleep(0)
            assert intake.held == 5
            await inference.use(rehearsal(Rehearsed(), 2))
            await until(intake, 5)

    rehearse(outbox, play)
    assert [results.version for results in stored(outbox)] == [2]


def test_one_stumble_costs_nothing(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        await inference.use(rehearsal(Rehearsed(failures=1), 1))
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 5))
            assert {reply.problem for reply in await until(intake, 5)} == {""}
        assert (inference.inferences, inference.errors) == (5, 0)

    rehearse(outbox, play)
    assert frames_stored(outbox) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("engine", [Rehearsed(failures=2), Rehearsed(confidence=float("nan"))])
def test_frames_that_cannot_be_answered_are_told_counted_and_passed(outbox: Outbox, engine: Rehearsed) -> None:
    async def play(inference: Inference) -> None:
        await inference.use(rehearsal(engine, 1))
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 5))
            problems = [reply.problem for reply in await until(intake, 5) if reply.problem]
            assert len(problems) == 1
            assert "frames 1 to 5 have no result" in problems[0]
            await inference.use(rehearsal(Rehearsed(), 2))
            await inference.hand_over(intake, run_of(6, 5))
            await until(intake, 10)
        stats = inference.stats()
        assert (stats.inferences, stats.errors) == (5, 5)

    rehearse(outbox, play)
    assert frames_stored(outbox) == [6, 7, 8, 9, 10]
    assert outbox.source_watermark("cam") == 10


def test_frames_of_another_size_than_the_models_are_refused_with_both_sizes(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        await inference.use(rehearsal(Rehearsed(), 1))
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 5, frame_bytes=9))
            replies = intake.replies()
            problem = (await anext(replies)).problem
            assert "9 bytes" in problem
            assert "2 x 2" in problem
            await inference.hand_over(intake, run_of(1, 5))
            await until(intake, 5)

    rehearse(outbox, play)
    assert frames_stored(outbox) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("overload", "errors"), [(Overload.WAIT, 0), (Overload.DROP_OLDEST, 5)])
def test_refused_frames_count_as_failed_where_their_source_does_not_hand_them_in_again(
    outbox: Outbox, overload: Overload, errors: int
) -> None:
    async def play(inference: Inference) -> None:
        await inference.use(rehearsal(Rehearsed(), 1))
        async with inference.intake("cam", overload) as intake:
            await inference.hand_over(intake, run_of(1, 5, frame_bytes=9))
            await inference.hand_over(intake, run_of(6, 5))
            await until(intake, 10)
        assert (inference.inferences, inference.errors, inference.dropped) == (5, errors, 0)

    rehearse(outbox, play)


def test_frames_that_waited_for_a_model_that_does_not_take_them_fail_alone(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 5, frame_bytes=9))
            await inference.hand_over(intake, run_of(6, 5))
            await inference.use(rehearsal(Rehearsed(), 1))
            assert any("9 bytes" in reply.problem for reply in await until(intake, 10))

    rehearse(outbox, play)
    assert frames_stored(outbox) == [6, 7, 8, 9, 10]


def test_while_the_outbox_fails_frames_wait_and_none_is_lost(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.inference.service.OUTBOX_RETRY_S", 0.01)
    outbox._database.execute("PRAGMA max_page_count = 5")  # as small as it is now: full

    async def play(inference: Inference) -> None:
        await inference.use(rehearsal(Rehearsed(), 1))
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 400))
            await asyncio.sleep(0.05)
            outbox._database.execute("PRAGMA max_page_count = 100000")
            await until(intake, 400)

    rehearse(outbox, play)
    assert frames_stored(outbox) == list(range(1, 401))


def test_stats_tell_of_one_interval(outbox: Outbox) -> None:
    async def play(inference: Inference) -> None:
        await inference.use(rehearsal(Rehearsed(), 1))
        async with inference.intake("cam") as intake:
            await inference.hand_over(intake, run_of(1, 5))
            await until(intake, 5)
        stats = inference.stats()
        assert (stats.inferences, stats.errors) == (5, 0)
        assert 0 < stats.latency_p50_us <= stats.latency_p95_us
        empty = inference.stats()
        assert (empty.inferences, empty.errors, empty.latency_p50_us, empty.latency_p95_us) == (0, 0, 0, 0)

    rehearse(outbox, play)
