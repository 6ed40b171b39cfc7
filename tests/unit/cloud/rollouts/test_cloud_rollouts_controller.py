"""The controller's loop in real time: one leads, and what ends it lets another lead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress

import pytest
from small_fleet import World
from sqlalchemy import text
from structlog.testing import capture_logs

from cloud.rollouts.controller import Controller
from cloud.rollouts.entities import State

PATIENCE_S = 60


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def in_time(world: World, story: Callable[[], Coroutine[None, None, None]]) -> None:
    try:
        asyncio.run(story())
    finally:
        world.database.close()


@pytest.fixture
def world(database_url: str) -> World:
    return World(database_url)


def devices_answer(world: World) -> None:
    """In the controller's own time, which is the present."""
    world.now_ms = _present_ms()
    world.devices_turn()


def _present_ms() -> int:
    return int(time.time() * 1000)


def test_a_controller_that_is_stopped_lets_another_lead_at_once(world: World) -> None:
    async def story() -> None:
        first = asyncio.create_task(Controller(world.new_process(), "one").run())
        await until(lambda: _owner(world) == "one")
        second = asyncio.create_task(Controller(world.new_process(), "two").run())
        await ended(first)
        await until(lambda: _owner(world) == "two")
        world.now_ms = _present_ms()
        rollout = world.create(1)

        def done() -> bool:
            devices_answer(world)
            return world.rollouts.get(rollout.id).state is State.SUCCEEDED

        await until(done)
        await ended(second)

    in_time(world, story)


def test_a_step_that_fails_is_tried_again(world: World) -> None:
    async def story() -> None:
        controller = asyncio.create_task(Controller(world.new_process()).run())
        await until(lambda: bool(_owner(world)))
        with capture_logs() as logged:
            with world.database.transaction() as connection:
                connection.execute(text("ALTER TABLE rollouts RENAME TO elsewhere"))
            await until(lambda: "rollouts could not be stepped" in [line["event"] for line in logged])
        with world.database.transaction() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO rollouts"))
        world.now_ms = _present_ms()
        rollout = world.create(1)

        def done() -> bool:
            devices_answer(world)
            return world.rollouts.get(rollout.id).state is State.SUCCEEDED

        await until(done)
        await ended(controller)

    in_time(world, story)


def _owner(world: World) -> str:
    with world.database.reading() as connection:
        found = connection.execute(text("SELECT owner FROM leases WHERE expires_ms > 0")).scalar_one_or_none()
    return str(found or "")
