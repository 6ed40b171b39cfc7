"""Whether the database answers, asked every so often. Who wants to know waits for nothing, even while it hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import structlog

from cloud.foundation.database import Database
from cloud.foundation.metrics import DATABASE_ERRORS, DATABASE_UP

EVERY_S = 1.0
PATIENCE_S = 3.0

OnChange = Callable[[bool], Awaitable[None]]

log = structlog.get_logger()


class Pulse:
    """Asks for as long as `run` runs. `listeners` hear of each change."""

    def __init__(self, database: Database, every_s: float = EVERY_S, patience_s: float = PATIENCE_S) -> None:
        self._database = database
        self._every_s = every_s
        self._patience_s = patience_s
        self._asking: asyncio.Future[str] | None = None
        self.alive = True  # nobody is asked before the database has been opened
        self.listeners: list[OnChange] = []

    async def run(self) -> None:
        """For ever."""
        DATABASE_UP.set(1)
        while True:
            complaint = await self._complaint()
            if complaint:
                DATABASE_ERRORS.labels("health").inc()
            if self.alive != (not complaint):
                await self._change(complaint)
            await asyncio.sleep(self._every_s)

    async def _change(self, complaint: str) -> None:
        self.alive = not complaint
        DATABASE_UP.set(self.alive)
        if complaint:
            log.error("database does not answer", error=complaint)
        else:
            log.info("database answers again")
        for listener in self.listeners:
            await listener(self.alive)

    async def _complaint(self) -> str:
        """Empty if the database has answered in time. One question at a time: a second would hang like the first."""
        self._asking = self._asking or self._ask()
        try:
            async with asyncio.timeout(self._patience_s):
                complaint = await asyncio.shield(self._asking)
        except TimeoutError:
            return f"no answer within {self._patience_s:g} s"
        self._asking = None
        return complaint

    def _ask(self) -> asyncio.Future[str]:
        # In a thread that nothing waits for at the end of the process, unlike those of a pool.
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def tell(complaint: str) -> None:
            if not answer.done():
                answer.set_result(complaint)

        def ask() -> None:
            complaint = self._database.complaint()
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, complaint)

        threading.Thread(target=ask, name="pulse", daemon=True).start()
        return answer
