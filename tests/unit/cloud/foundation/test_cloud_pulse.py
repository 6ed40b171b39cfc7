"""Whether the database answers, asked of one that answers, one that is gone, and one that says nothing at all."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing, suppress
from pathlib import Path

from prometheus_client import REGISTRY

from cloud.foundation.database import Database
from cloud.foundation.pulse import Pulse


async def changes(pulse: Pulse, count: int) -> list[bool]:
    """What listeners hear, until so many changes."""
    heard: asyncio.Queue[bool] = asyncio.Queue()
    pulse.listeners.append(heard.put)
    running = asyncio.create_task(pulse.run())
    told = [await heard.get() for _ in range(count)]
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return told


def test_a_database_that_is_gone_is_noticed_and_its_return_too(tmp_path: Path) -> None:
    folder, away = tmp_path / "data", tmp_path / "away"
    with closing(Database(f"sqlite:///{folder}/littoral.db")) as database:
        database.create()
        pulse = Pulse(database, every_s=0.01)

        async def main() -> list[bool]:
            database.close()  # no connection of before
            folder.rename(away)
            listening = asyncio.create_task(changes(pulse, 2))
            while pulse.alive:  # noqa: ASYNC110 - a flag, not an event
                await asyncio.sleep(0.01)
            assert REGISTRY.get_sample_value("littoral_database_up") == 0
            away.rename(folder)
            return await listening

        assert asyncio.run(main()) == [False, True]
        assert REGISTRY.get_sample_value("littoral_database_up") == 1


def test_a_database_that_hangs_is_asked_once_and_nobody_waits_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        with closing(Database(url)) as database:
            pulse = Pulse(database, every_s=0.01, patience_s=0.05)

            async def main() -> tuple[list[bool], object, object]:
                heard = await changes(pulse, 1)
                asked = pulse._asking
                running = asyncio.create_task(pulse.run())
                await asyncio.sleep(0.3)
                running.cancel()
                return heard, asked, pulse._asking

            heard, first, later = asyncio.run(main())
    assert heard == [False]
    assert first is later is not None
