"""Telemetry on its way into its outbox."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.reporting import rules
from edge.reporting.intervals import Intervals
from edge.uplink.outbox import Outbox
from protos.v1.uplink_pb2 import Telemetry, TelemetryBatch
from tests.waiting import eventually


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox.open(tmp_path / "telemetry.db", 1 << 20)


def kept(outbox: Outbox) -> list[Telemetry]:
    return [TelemetryBatch.FromString(batch.payload).intervals[0] for batch in outbox.after(0, 1000)]


def test_each_interval_is_kept_and_covers_the_time_since_the_one_before(outbox: Outbox) -> None:
    asked: list[float] = []

    def measure(interval_s: float) -> Telemetry:
        asked.append(interval_s)
        return Telemetry(interval_s=interval_s, inferences=len(asked))

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        running = asyncio.create_task(Intervals(measure, outbox, lambda: True, 0.01).run())
        await eventually(lambda: outbox.depth().rows >= 5)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        return loop.time() - began

    took_s = asyncio.run(main())
    assert [interval.inferences for interval in kept(outbox)] == list(range(1, outbox.depth().rows + 1))
    assert sum(asked) <= took_s


def test_on_a_full_disk_intervals_wait_for_the_next(outbox: Outbox) -> None:
    count = 0

    def measure(_: float) -> Telemetry:
        nonlocal count
        count += 1
        return Telemetry(inferences=count, model="m" * 2000)

    async def main() -> None:
        outbox._database.execute("PRAGMA max_page_count = 1")
        running = asyncio.create_task(Intervals(measure, outbox, lambda: True, 0.01).run())
        await eventually(lambda: count >= 5)
        outbox._database.execute("PRAGMA max_page_count = 100000")
        await eventually(lambda: outbox.depth().rows >= 6)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert [interval.inferences for interval in kept(outbox)] == list(range(1, outbox.depth().rows + 1))


@given(st.floats(0, 1e6), st.floats(0.001, 1e6))
def test_while_nobody_takes_it_an_interval_is_a_minute_at_least(elapsed_s: float, every_s: float) -> None:
    assert rules.is_interval(elapsed_s, every_s, is_taken=True)
    assert rules.is_interval(elapsed_s, every_s, is_taken=False) == (elapsed_s >= 60 and elapsed_s >= every_s)
