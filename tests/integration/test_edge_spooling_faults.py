"""A disk that is full or takes no writes while results go into the outbox: at each of many moments, for a while."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.inference import service
from edge.inference.entities import Blueprint, FrameRun, Limits
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.kit.columns import decode
from tests import in_thread, tiny_models
from tests.syscalls import Call, Decide, Verdict, supervise, supported

pytestmark = [
    pytest.mark.skipif(not supported(), reason="the kernel does not tell of system calls (seccomp user notification)"),
    pytest.mark.forks,
]

FRAMES = 40
RUN = 4
GOOD = tiny_models.int8(tiny_models.weights())
TAKES_ROOM = {"write", "pwrite64", "fallocate", "ftruncate"}
CHANGES = TAKES_ROOM | {"fsync", "fdatasync", "unlink", "rename"}
FAILS_FOR = 12
"""Calls: longer than a commit, so that what is tried next fails as well."""
MOMENTS = 6


def full(first: int) -> Decide:
    return lambda call: errno.ENOSPC if _struck(call, first) and call.name in TAKES_ROOM else Verdict.GO_ON


def read_only(first: int) -> Decide:
    return lambda call: errno.EROFS if _struck(call, first) and call.name in CHANGES else Verdict.GO_ON


def _struck(call: Call, first: int) -> bool:
    return first <= call.number < first + FAILS_FOR


async def spool(outbox: Outbox, blueprint: Blueprint) -> None:
    """Infer all frames; their source hands over more when it is told that they are durable."""
    inference = Inference(outbox, Limits(batch_frames=RUN), in_thread.start)
    running = asyncio.create_task(inference.run())
    await inference.use(blueprint)
    async with inference.intake("cam") as intake:
        for first in range(1, FRAMES, RUN):
            pixels = tiny_models.frames().reshape(4, 4)[np.arange(first, first + RUN) % 4]
            await inference.hand_over(intake, FrameRun(first, pixels, np.zeros(RUN, np.int64), taken_ns=0))
            async for reply in intake.replies():  # each run has a commit of its own, in every life
                assert not reply.problem
                if reply.watermark == intake.accepted:
                    break
    assert inference.errors == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", [full, read_only])
def test_a_disk_that_takes_no_results_for_a_while_costs_time_and_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[int], Decide]
) -> None:
    monkeypatch.setattr(service, "OUTBOX_RETRY_S", 0.05)
    manifest = tiny_models.manifest({"int8": GOOD})
    file = tmp_path / "model.tflite"
    file.write_bytes(GOOD)
    blueprint = Blueprint(file, manifest.variants[0], manifest.preprocessing, 1, bytes(32), "tiny", 1)

    def live(folder: Path, decide: Decide) -> list[Call]:
        folder.mkdir()
        Outbox.open(folder / "outbox.db", 1 << 30).close()

        def action() -> None:
            asyncio.run(spool(Outbox.open(folder / "outbox.db", 1 << 30), blueprint))

        return supervise(action, folder, decide).calls

    calls = live(tmp_path / "rehearsal", lambda _: Verdict.GO_ON)
    begun = next(call.number for call in calls if call.name in {"fsync", "fdatasync"})
    for first in np.linspace(begun + 1, len(calls) - FAILS_FOR, MOMENTS, dtype=int).tolist():
        folder, failed = tmp_path / str(first), list[Call]()
        decide = fault(first)

        def noted(call: Call, decide: Decide = decide, failed: list[Call] = failed) -> Verdict | int:
            verdict = decide(call)
            failed += [call] if isinstance(verdict, int) else []
            return verdict

        live(folder, noted)
        assert failed, "the fault struck"
        stored = Outbox.open(folder / "outbox.db", 1 << 30).after(0, 1000)
        found = [frame for batch in stored for frame in decode(batch.payload, batch.count).frame.tolist()]
        assert found == list(range(1, FRAMES + 1))
