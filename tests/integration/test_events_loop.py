"""What happens on a device is an event in the cloud, once: real agent, real broker, real ingest, whatever is killed."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny_models
from tests.integration.loop_kit import Loop, play

GOOD = tiny_models.int8(tiny_models.weights())
OVERFLOWING = tiny_models.float32(2e38 * np.ones((4, 4)) + 1e38 * np.eye(4))
"""Its golden vectors stay below the largest float32, a brighter frame does not."""
ALL_BRIGHT = np.full((3, *tiny_models.FRAME_SHAPE), 255, np.uint8)
LONG_TRIAL = ("--trial-s", "600", "--telemetry-s", "0.3")


def good_and_overflowing(loop: Loop) -> None:
    for variant, file in (("int8", GOOD), ("float32", OVERFLOWING)):
        loop.register(tiny_models.manifest({variant: file}), {variant: file})


async def on_trial(loop: Loop) -> None:
    """Version 1 is committed, version 2 in a trial that it will not survive."""
    await loop.start_agent("--telemetry-s", "0.3")
    await loop.rolled_out(1)
    await loop.until(lambda: loop.get("/devices"), lambda found: found[0]["state"] == "committed")
    await loop.device.end(signal.SIGTERM)
    await loop.start_agent(*LONG_TRIAL)
    await loop.post("/rollouts", {"model": "tiny", "version": 2, "waves": ["rest"]})
    await loop.until(
        lambda: loop.get("/devices"), lambda found: found[0]["state"] == "trial" and found[0]["version"] == 2
    )


async def kinds(loop: Loop) -> Counter[str]:
    """How often each kind of event is there."""
    found = await loop.get("/events?limit=1000")
    assert found["next"] is None
    return Counter(event["kind"] for event in found["events"])


async def settled(loop: Loop) -> dict[str, Any]:
    """The audit of events, once the device has sent all."""

    async def audit() -> Any:
        found = await loop.get("/audit/events")
        return found[0] if found else {"made": 0}

    def is_settled(found: dict[str, Any]) -> bool:
        return found["made"] > 0 and found["waiting"] == 0 and found["stored"] == found["made"]

    found: dict[str, Any] = await loop.until(audit, is_settled)
    return found


def test_an_update_that_is_rolled_back_is_an_event_in_the_cloud(tmp_path: Path) -> None:
    async def scene(loop: Loop) -> None:
        await on_trial(loop)
        await loop.device.feed(ALL_BRIGHT, 1)
        await loop.until(lambda: loop.get("/events?kind=update.rolled_back"), lambda found: found["events"])
        found = await loop.get("/events?device=edge-1&severity=warning&kind=update")
        (event,) = found["events"]
        shown = {name: event[name] for name in ("kind", "severity", "slot", "model", "version", "times")}
        assert shown == {
            "kind": "update.rolled_back",
            "severity": "warning",
            "slot": "default",
            "model": "tiny",
            "version": 2,
            "times": 1,
        }
        assert "3 frames had no result" in event["text"]
        assert (await kinds(loop))["update.committed"] == 1
        assert (await settled(loop))["lost"] == 0

    play(tmp_path, good_and_overflowing, scene)


def test_it_is_there_once_however_often_ingest_and_agent_are_killed(tmp_path: Path) -> None:
    chance = random.Random(11)

    async def scene(loop: Loop) -> None:
        await on_trial(loop)
        await loop.end_cloud()  # nobody hears of it when it happens
        await loop.device.feed(ALL_BRIGHT, 1)
        for _ in range(3):
            await loop.start_cloud()
            await asyncio.sleep(chance.random())
            await loop.end_cloud()
            await loop.device.end(signal.SIGKILL)
            await loop.start_agent(*LONG_TRIAL)
        await loop.start_cloud()
        await loop.until(lambda: kinds(loop), lambda found: found["agent.started"] == 5)
        audited = await settled(loop)
        assert (audited["lost"], audited["doubled"], audited["dropped"]) == (0, 0, 0)
        found = await kinds(loop)
        assert (found["update.rolled_back"], found["update.committed"]) == (1, 1)

    play(tmp_path, good_and_overflowing, scene)


def test_what_a_device_measured_is_history_in_the_cloud_and_the_newest_is_shown(tmp_path: Path) -> None:
    async def scene(loop: Loop) -> None:
        await loop.start_agent("--telemetry-s", "0.3")
        await loop.rolled_out(1)
        page = await loop.until(
            lambda: loop.get("/devices/edge-1/telemetry"), lambda found: len(found["intervals"]) > 3
        )
        times = [one["measured_ms"] for one in page["intervals"]]
        assert times == sorted(set(times), reverse=True)
        assert page["intervals"][0]["health"]["memory"] > 0
        (device,) = await loop.get("/devices")
        assert device["telemetry"]["measured_ms"] >= times[0]
        (audited,) = await loop.get("/audit/telemetry")
        assert (audited["lost"], audited["doubled"]) == (0, 0)

    play(tmp_path, good_and_overflowing, scene)
