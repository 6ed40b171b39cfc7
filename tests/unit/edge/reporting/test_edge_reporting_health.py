from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from edge.inference.entities import Blueprint
from edge.inference.service import Inference
from edge.reporting import rules
from edge.reporting.health import Health
from edge.uplink.outbox import Outbox
from tests import in_thread
from tests.in_thread import InThread, rehearsal


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def inference(tmp_path: Path) -> Inference:
    return Inference(Outbox.open(tmp_path / "outbox.sqlite", 2**20))


def test_an_agent_whose_loop_moves_lives_and_without_a_model_is_not_ready(inference: Inference) -> None:
    health = Health([inference])
    assert health.live() == ""
    assert health.ready() == "no model is committed yet"


def test_an_agent_whose_loop_hangs_does_not_live_until_it_moves_again(inference: Inference) -> None:
    clock = Clock()
    health = Health([inference], clock)
    clock.now_s = rules.LOOP_HANGS_S + 1
    assert "event loop has not moved" in health.live()
    assert "event loop has not moved" in health.ready()
    health.beat()
    assert health.live() == ""


@pytest.mark.parametrize(
    ("lost_s", "lives"), [(0, True), (rules.WORKER_LOST_S, True), (rules.WORKER_LOST_S + 1, False)]
)
def test_a_model_may_be_without_its_process_for_as_long_as_a_restart_takes(lost_s: float, lives: bool) -> None:  # noqa: FBT001
    assert (rules.lifelessness(0, lost_s) == "") is lives


def test_every_slot_that_has_a_model_needs_its_process(tmp_path: Path) -> None:
    outbox, clock, workers = Outbox.open(tmp_path / "outbox.sqlite", 2**20), Clock(), list[InThread]()

    async def started(blueprint: Blueprint, most: int) -> InThread:
        workers.append(await in_thread.start(blueprint, most))
        return workers[-1]

    async def main() -> None:
        slots = [Inference(outbox), Inference(outbox, start=started)]
        health = Health(slots, clock)
        await slots[1].use(rehearsal(None))
        health.beat()
        assert health.ready() == ""  # the main slot has no model yet, and that is no trouble of the other
        workers[0].pid = None
        health.beat()
        assert health.ready() == "the model's process is started again"
        clock.now_s = rules.WORKER_LOST_S + 1
        health.beat()
        assert "without a process" in health.live()
        workers[0].pid = 1
        health.beat()
        assert (health.live(), health.ready()) == ("", "")

    asyncio.run(main())


def test_systemd_gets_signs_of_life_while_the_loop_moves(
    inference: Inference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000")

        async def beating() -> list[bytes]:
            task = asyncio.create_task(Health([inference]).run())
            heard = [await asyncio.to_thread(systemd.recv, 100) for _ in range(3)]
            task.cancel()
            return heard

        assert asyncio.run(beating()) == [b"WATCHDOG=1"] * 3
