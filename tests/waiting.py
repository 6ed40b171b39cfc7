"""Waiting for what no event tells of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cloud.foundation.database import Database


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once it holds; the test's own time limit is the only one."""
    while not holds():  # noqa: ASYNC110 - a test looks from outside
        await asyncio.sleep(0.005)


def until(holds: Callable[[], bool], every_s: float = 0.2) -> None:
    """The same where nothing else goes on meanwhile, and looking costs something: a program, a request."""
    while not holds():
        time.sleep(every_s)


def blocked(database: Database) -> int:
    """How many transactions on this PostgreSQL database wait for another's lock."""
    ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.reading() as connection:
        return int(connection.exec_driver_sql(ours).scalar_one())
