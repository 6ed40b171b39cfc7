"""A challenger from `shadow/start` to what the cloud shows of it, over a real broker and real gRPC."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.inference.golden import expected
from protos.v1.manifest_pb2 import Manifest, TensorSpec, Variant
from tests import hostile, tiny_models
from tests.integration.loop_kit import Loop, play

GOOD = tiny_models.int8(tiny_models.weights())
QUICK = ("--shadow-s", "0.3", "--telemetry-s", "0.3")

_OTHER = tiny_models.weights()
_OTHER[[2, 3]] = _OTHER[[3, 2]]
OTHER = tiny_models.int8(_OTHER)
"""Takes class 2 for 3 and class 3 for 2."""


def good_and_other(loop: Loop) -> None:
    for file in (GOOD, OTHER):
        loop.register(tiny_models.manifest({"int8": file}), {"int8": file})


def frames(times: int = 10) -> np.ndarray:
    return np.tile(tiny_models.frames(), (times, 1, 1))


async def challenged(loop: Loop, share: float = 1.0) -> None:
    """Version 1 serves, version 2 runs beside it."""
    await loop.start_agent(*QUICK)
    await loop.rolled_out(1)
    await loop.post("/shadow/start", {"model": "tiny", "version": 2, "share": share})
    await loop.until(loop.challenger, lambda found: found["state"] == "running")


def test_a_challenger_is_fetched_and_compared_and_stopped_while_the_champion_serves(tmp_path: Path) -> None:
    async def scene(loop: Loop) -> None:
        await challenged(loop)
        await loop.feed(frames())
        found = await loop.until(loop.challenger, lambda found: found["compared"] == 40)
        assert (found["champion_version"], found["agreed"], found["agreement"]) == (1, 20, 0.5)
        assert {(one["champion"], one["challenger"], one["frames"]) for one in found["confusions"]} == {
            (2, 3, 10),
            (3, 2, 10),
        }
        await loop.post("/shadow/stop", {"model": "tiny", "version": 2})
        await loop.until(lambda: loop.running("default.shadow"), lambda manifest: not manifest)
        await loop.feed(frames())
        assert (await loop.challenger())["compared"] == 40
        (device,) = await loop.get("/devices")
        assert (device["version"], device["state"]) == (1, "committed")
        summary = await stored(loop, 80)
        assert list(summary["results_per_version"]) == ["1"]

    play(tmp_path, good_and_other, scene)


async def stored(loop: Loop, results: int) -> Any:
    """The summary, once so many results are in the database."""
    return await loop.until(lambda: loop.get("/summary"), lambda found: found["results_total"] == results)


def test_a_killed_agent_goes_on_with_its_challenger_and_the_comparison(tmp_path: Path) -> None:
    async def scene(loop: Loop) -> None:
        await challenged(loop)
        await loop.feed(frames())
        await loop.until(loop.challenger, lambda found: found["compared"] == 40)
        for life in range(2, 4):
            await loop.device.end(signal.SIGKILL)
            await loop.start_agent(*QUICK)
            # The challenger is started after the champion: until then there is nothing to compare with.
            while (await loop.challenger())["compared"] < 40 * life:
                await loop.feed(frames(1))
                await asyncio.sleep(0.1)
        assert (await loop.challenger())["state"] == "running"

    play(tmp_path, good_and_other, scene)


def test_a_challenger_that_does_not_prove_itself_is_refused_and_never_sees_a_frame(tmp_path: Path) -> None:
    damaged = tiny_models.int8(tiny_models.weights(shift=1))

    def prepare(loop: Loop) -> None:
        loop.register(tiny_models.manifest({"int8": GOOD}), {"int8": GOOD})
        loop.register(tiny_models.manifest({"int8": damaged}, judged_by={"int8": GOOD}), {"int8": damaged})

    async def scene(loop: Loop) -> None:
        await loop.start_agent(*QUICK)
        await loop.rolled_out(1)
        await loop.post("/shadow/start", {"model": "tiny", "version": 2, "share": 1})
        found = await loop.until(loop.challenger, lambda found: found["state"] == "refused")
        assert found["reason"].startswith("golden vectors: 4 of 4 wrong")
        await loop.feed(frames())
        (receipt, *_) = await loop.get("/receipts?outcome=refused")
        assert (receipt["version"], receipt["reason"]) == (2, found["reason"])

    play(tmp_path, prepare, scene)


def hostile_draft() -> Manifest:
    """A model for the hostile interpreter, whose golden vectors do it no harm."""
    variant = Variant(
        name="float32",
        artifact=tiny_models.artifact(b"fine"),
        input=TensorSpec(shape=tiny_models.FRAME_SHAPE, dtype="float32"),
        output=TensorSpec(shape=[tiny_models.CLASSES], dtype="float32"),
    )
    draft = Manifest(model="tiny", preprocessing=tiny_models.preprocessing(), labels=list("abcd"))
    draft.variants.append(variant)
    vector = draft.golden.add(frame=bytes([0, 2, 0, 0]))
    vector.expected.append(expected("float32", np.array([0.1, 0.1, 0.9, 0.1], np.float32), 1e-4))
    return draft


def test_a_challenger_that_crashes_on_live_frames_ends_and_stays_ended_while_the_champion_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Champion and challenger both run on the hostile interpreter; only the challenger's file is one that falls over.
    monkeypatch.setenv("PYTHONPATH", str(hostile.FOLDER))
    fragile = b"fragile"

    def prepare(loop: Loop) -> None:
        loop.register(hostile_draft(), {"float32": b"fine"})
        loop.register(hostile_draft(), {"float32": fragile})

    async def scene(loop: Loop) -> None:
        await challenged(loop)
        bad = np.full((5, *tiny_models.FRAME_SHAPE), hostile.FRAGILE, np.uint8)
        await loop.feed(bad)
        found = await loop.until(loop.challenger, lambda found: found["state"] == "ended")
        assert "SIGSEGV" in found["reason"]
        await loop.device.end(signal.SIGKILL)
        await loop.start_agent(*QUICK)
        await loop.feed(bad)
        await stored(loop, 10)
        assert (await loop.challenger())["state"] == "ended"

    play(tmp_path, prepare, scene)
