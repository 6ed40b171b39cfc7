"""SIGTERM ends an agent within its bound, whatever stands in the way."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from tests import tiny_models
from tests.integration.device_kit import Cloud, Device
from tests.integration.test_edge_agent import play, rolled_out


def test_an_agent_whose_sink_never_takes_anything_keeps_results_and_ends_all_the_same(tmp_path: Path) -> None:
    """A FIFO that nobody reads holds the thread that opens it for ever."""

    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        os.mkfifo(tmp_path / "results")
        await device.start("--results-file", str(tmp_path / "results"))
        await rolled_out(cloud, device)
        for first in (1, 5, 9):
            replies = await device.feed(tiny_models.frames(), first)
            assert replies[-1].watermark == first + 3
        assert await asyncio.wait_for(device.end(signal.SIGTERM), 60) == 0
        assert "agent stops" in [line["event"] for line in device.log]

    play(tmp_path, scenario)
