"""A challenger beside the champion, whatever it does: the champion loses nothing, and the comparison is right."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.inference import supervisor
from edge.inference.answering import Start
from edge.inference.entities import Answers, BadModel, Blueprint, FrameRun, Limits
from edge.inference.intake import Intake
from edge.inference.service import Inference
from edge.shadow.disagreements import Folder
from edge.shadow.record import Record
from edge.shadow.service import Ports, Shadow
from edge.update.entities import Target
from edge.uplink.outbox import Outbox
from protos.kit.columns import Results
from protos.v1.manifest_pb2 import TensorSpec, Variant
from protos.v1.sketches_pb2 import Comparison
from protos.v1.uplink_pb2 import UplinkMessage
from tests import hostile, in_thread, tiny_models
from tests.hostile import CRASH, EAT, HANG, NAN, RAISE

CHAMPION, CHALLENGER = b"\1" * 32, b"\2" * 32
HANG_S = 1.0
FRAMES = 10  # in a micro-batch


class Model:
    """A classifier whose label is the frame's second pixel % 4, but for these pixels, where it is one more."""

    frame_shape = tiny_models.FRAME_SHAPE
    busy_ns = 0

    def __init__(self, other_at: frozenset[int] = frozenset()) -> None:
        self._other_at = other_at

    def classify(self, frames: NDArray[np.uint8]) -> Answers:
        self.busy_ns += 1000 * len(frames)
        pixel = frames.reshape(len(frames), -1)[:, 1]
        label = (pixel + np.isin(pixel, list(self._other_at))) % 4
        return Answers(label.astype(np.uint16), np.full(len(frames), 0.5, np.float32))


@dataclass
class Device:
    """A champion with its source, and a place for a challenger."""

    inference: Inference
    outbox: Outbox
    intake: Intake
    shadow: Shadow
    ports: Any
    told: list[Comparison]
    kept: list[tuple[NDArray[np.uint8], Results, Results]]
    handed: int = 0
    ends: list[str] = field(default_factory=list)

    async def feed(self, micro_batches: int = 1, fault: int = 0) -> None:
        """Hand frames in and wait for their results; their second pixels are their numbers."""
        for _ in range(micro_batches):
            pixels = np.zeros((FRAMES, 4), np.uint8)
            pixels[:, 0], pixels[:, 1] = fault, np.arange(self.handed + 1, self.handed + FRAMES + 1) % 200
            run = FrameRun(self.handed + 1, pixels, np.zeros(FRAMES, np.int64), taken_ns=0)
            await self.inference.hand_over(self.intake, run)
            self.handed += FRAMES
            async for reply in self.intake.replies():
                assert not reply.problem
                if reply.watermark == self.handed:
                    break
            await asyncio.sleep(0)  # the watchers' turn is after the source's
            if not fault:
                await self.shadow.settled()

    async def ended(self) -> Comparison:
        """The word that the challenger has ended."""
        await until(lambda: bool(self.told and self.told[-1].ended))
        return self.told[-1]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Frames offered, compared and agreed so far."""
        assert self.shadow._tally
        now = self.shadow._tally.message(0)
        return now.offered, now.compared, now.agreed

    def target(self, generation: int = 1, share: float = 1.0, manifest: bytes = CHALLENGER) -> None:
        """This challenger is desired."""
        self.ports.target = Target("default.shadow", "m", 2, manifest, generation, 0, 2**60, "", share)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the state is polled as a person would look at it
        await asyncio.sleep(0.01)


class _Desired:
    target: Target | None = None


@asynccontextmanager
async def device(folder: Path, start: Start = in_thread.start, champion: bytes = CHAMPION) -> AsyncIterator[Device]:
    outbox = Outbox.open(folder / "outbox.db", 1 << 30)
    inference = Inference(outbox, Limits(batch_frames=FRAMES), in_thread.start)
    wanted, told, kept = _Desired(), list[Comparison](), list[tuple[NDArray[np.uint8], Results, Results]]()

    def offer(message: UplinkMessage) -> None:
        told.append(message.comparison)

    def keep(frames: NDArray[np.uint8], first: Results, second: Results) -> None:
        kept.append((frames, first, second))

    ports = Ports(lambda: wanted.target, offer, Folder(folder / "kept", 1 << 20), keep)
    shadow = Shadow("default", Record(folder, "default"), ports, 0.05, start)
    inference.on_answered(shadow.take)
    running = [asyncio.create_task(work) for work in (inference.run(), shadow.run())]
    try:
        await inference.use(replace(in_thread.rehearsal(Model(), manifest=champion), version=1))
        async with inference.intake("cam") as intake:
            yield Device(inference, outbox, intake, shadow, wanted, told, kept, handed=outbox.source_watermark("cam"))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        outbox.close()


def play(folder: Path, scene: Callable[[Device], Awaitable[None]], start: Start = in_thread.start) -> None:
    async def main() -> None:
        async with device(folder, start) as made:
            await scene(made)

    asyncio.run(main())


def challenger(other_at: frozenset[int] = frozenset(), manifest: bytes = CHALLENGER) -> Blueprint:
    return in_thread.rehearsal(Model(other_at), 2, manifest)


def hostile_challenger(folder: Path, text: str = "") -> Blueprint:
    file = folder / "hostile.tflite"
    file.write_text(text)
    specs = TensorSpec(shape=(2, 2), dtype="float32"), TensorSpec(shape=(4,), dtype="float32")
    variant = Variant(name="float32", input=specs[0], output=specs[1])
    return Blueprint(file, variant, tiny_models.preprocessing(), 1, CHALLENGER, "m", 2)


def text_of(file: Path) -> str:
    return file.read_text().strip()


REAL: Start = partial(supervisor.start, hang_s=HANG_S)


def test_a_challenger_answers_its_share_of_the_champions_frames(tmp_path: Path) -> None:
    async def scene(device: Device) -> None:
        device.target(share=0.3)
        await device.shadow.use(challenger(frozenset({5, 6})))
        await device.feed(20)
        assert device.counts[:2] == (200, 60)

    play(tmp_path, scene)


def test_where_they_disagree_is_counted_and_the_frames_are_kept(tmp_path: Path) -> None:
    async def scene(device: Device) -> None:
        device.target()
        await device.shadow.use(challenger(frozenset({5, 16})))
        await device.feed(2)
        assert device.counts == (20, 20, 18)
        frames = np.concatenate([frames for frames, _, _ in device.kept])
        assert frames[:, 1].tolist() == [5, 16]
        _, first, second = device.kept[0]
        assert (first.frame.tolist(), first.label.tolist(), second.label.tolist()) == ([5], [1], [2])

    play(tmp_path, scene)


def test_the_comparison_is_told_and_says_what_was_compared(tmp_path: Path) -> None:
    async def scene(device: Device) -> None:
        device.target(generation=3)
        await device.shadow.use(challenger())
        await device.feed(2)
        await until(lambda: bool(device.told and device.told[-1].compared == 20))
        told = device.told[-1]
        assert (told.slot, told.generation, told.share) == ("default", 3, 1.0)
        assert (told.champion, told.challenger, told.offered, told.ended) == (CHAMPION, CHALLENGER, 20, "")

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(CRASH, "SIGSEGV"), (EAT, "SIGABRT"), (HANG, "hung"), (NAN, "not numbers"), (RAISE, "failed to invoke")],
)
def test_whatever_a_challenger_does_to_itself_ends_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int, reason: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(hostile.FOLDER))

    async def scene(device: Device) -> None:
        ends: list[bool] = []
        device.shadow.on_ended = lambda: ends.append(True)
        device.target()
        await device.shadow.use(hostile_challenger(tmp_path))
        await device.feed(2)
        await device.feed(5, fault)
        told = await device.ended()
        await device.feed(2)
        assert reason in told.ended
        assert (told.compared, ends, device.shadow.pid) == (20, [True], None)
        assert device.shadow.errors == FRAMES
        assert (device.inference.inferences, device.inference.errors, device.inference.crashes) == (90, 0, 0)
        assert sum(batch.count for batch in device.outbox.after(0, 1000)) == 90

    play(tmp_path, scene, REAL)


def test_a_challenger_that_is_killed_while_it_has_nothing_to_do_has_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(hostile.FOLDER))

    async def scene(device: Device) -> None:
        device.target()
        await device.shadow.use(hostile_challenger(tmp_path))
        assert device.shadow.pid
        os.kill(device.shadow.pid, signal.SIGKILL)
        assert (await device.ended()).ended == "its process ended by itself"

    play(tmp_path, scene, REAL)


def test_a_challenger_works_when_nobody_else_would_and_is_ended_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(hostile.FOLDER))

    async def scene(device: Device) -> None:
        device.target()
        await device.shadow.use(hostile_challenger(tmp_path))
        pid = device.shadow.pid
        assert pid
        assert os.getpriority(os.PRIO_PROCESS, pid) == 19
        assert text_of(Path(f"/proc/{pid}/oom_score_adj")) == "900"

    play(tmp_path, scene, REAL)


def test_one_that_has_ended_is_not_started_again_until_it_is_desired_anew(tmp_path: Path) -> None:
    async def ending(device: Device) -> None:
        device.target(generation=4)
        await device.shadow.use(challenger())
        await device.feed()
        device.shadow._end("it broke")
        await device.ended()

    async def later(device: Device) -> None:
        device.target(generation=4)
        with pytest.raises(BadModel, match="it broke"):
            await device.shadow.use(challenger())
        device.target(generation=5)
        await device.shadow.use(challenger())
        await device.feed()
        assert device.counts == (10, 10, 10)

    play(tmp_path, ending)
    play(tmp_path, later)


def test_the_comparison_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def life(device: Device) -> None:
        device.target()
        await device.shadow.use(challenger(frozenset({5})))
        await device.feed(2)

    async def last(device: Device) -> None:
        await life(device)
        assert device.counts[:2] == (60, 60)

    play(tmp_path, life)
    play(tmp_path, life)
    play(tmp_path, last)


def test_another_champion_begins_another_comparison(tmp_path: Path) -> None:
    async def scene(device: Device) -> None:
        device.target()
        await device.shadow.use(challenger())
        await device.feed(3)
        await device.inference.use(in_thread.rehearsal(Model(), 3, b"\3" * 32))
        await device.feed()
        assert device.shadow._tally
        assert (device.shadow._tally.champion, device.counts) == (b"\3" * 32, (10, 10, 10))

    play(tmp_path, scene)


def test_a_challenger_that_becomes_the_champion_has_ended(tmp_path: Path) -> None:
    async def scene(device: Device) -> None:
        device.target()
        await device.shadow.use(challenger())
        await device.inference.use(challenger())
        await device.feed()
        assert (await device.ended()).ended == "the challenger serves as the champion now"

    play(tmp_path, scene)


def test_only_the_challenger_that_is_desired_is_run(tmp_path: Path) -> None:
    async def scene(device: Device) -> None:
        with pytest.raises(BadModel, match="not the challenger that is desired"):
            await device.shadow.use(challenger())
        device.target(manifest=b"\7" * 32)
        with pytest.raises(BadModel, match="not the challenger that is desired"):
            await device.shadow.use(challenger())

    play(tmp_path, scene)


def test_one_that_waits_for_a_newer_one_is_not_compared_any_more(tmp_path: Path) -> None:
    async def scene(device: Device) -> None:
        device.target()
        await device.shadow.use(challenger())
        await device.feed()
        device.target(generation=2, manifest=b"\7" * 32)
        await device.feed()
        assert device.counts == (10, 10, 10)
        device.shadow._end("it broke")
        device.target(generation=2, manifest=b"\7" * 32)
        await device.shadow.use(challenger(manifest=b"\7" * 32))  # the newer one has not ended with it

    play(tmp_path, scene)


def test_another_share_holds_at_once_and_is_counted_anew(tmp_path: Path) -> None:
    async def scene(device: Device) -> None:
        device.target(share=1.0)
        await device.shadow.use(challenger())
        await device.feed()
        device.target(generation=2, share=0.5)
        await device.feed(4)
        assert device.counts[:2] == (40, 20)

    play(tmp_path, scene)


def test_withdrawn_it_sees_no_more_frames(tmp_path: Path) -> None:
    async def scene(device: Device) -> None:
        device.target()
        await device.shadow.use(challenger())
        device.shadow.withdraw()
        await device.feed(2)
        assert device.shadow.pid is None
        assert device.inference.inferences == 20

    play(tmp_path, scene)


def test_a_damaged_record_begins_the_comparison_anew(tmp_path: Path) -> None:
    (tmp_path / "comparison-default.pb").write_bytes(b"\xff" * 40)

    async def scene(device: Device) -> None:
        device.target()
        await device.shadow.use(challenger())
        await device.feed()
        assert device.counts == (10, 10, 10)

    play(tmp_path, scene)
