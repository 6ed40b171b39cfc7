"""The sources and sinks on the device beside the agent."""

from __future__ import annotations

import asyncio

import pytest

from edge.inference import local


def test_a_source_or_sink_that_fails_begins_again_and_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "AGAIN_S", 0.0)
    begun = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise RecursionError("a file that nobody thought of")

    asyncio.run(local.kept_up("watched folder", work))
    assert begun == [0, 1, 2]
