from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.reporting import local


def while_serving(path: Path, describe: Callable[[], dict[str, object]], act: Callable[[], Any]) -> Any:
    async def scenario() -> Any:
        serving = asyncio.create_task(local.serve(path, describe))
        await asyncio.to_thread(appeared, path)
        try:
            return await asyncio.to_thread(act)
        finally:
            serving.cancel()
            await asyncio.wait({serving})

    return asyncio.run(scenario())


def appeared(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_a_connection_is_answered_with_the_status_of_this_moment(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    counts = iter(range(9))
    answers = while_serving(
        path, lambda: {"n": next(counts), "text": "é" * 5000}, lambda: [local.ask(path) for _ in range(2)]
    )
    assert answers == [{"n": n, "text": "é" * 5000} for n in range(2)]


def test_where_no_agent_runs_nothing_answers(tmp_path: Path) -> None:
    with pytest.raises(local.NoAnswer):
        local.ask(tmp_path / "status.sock")


def test_a_socket_that_a_killed_agent_left_behind_does_not_answer_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(local.NoAnswer):
        local.ask(path)
    assert while_serving(path, lambda: {"up": True}, lambda: ask_until_answered(path)) == {"up": True}


def ask_until_answered(path: Path) -> dict[str, Any]:
    while True:
        try:
            return local.ask(path)
        except local.NoAnswer:
            continue


def test_the_socket_is_gone_after_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    while_serving(path, dict, lambda: None)
    assert not path.exists()
