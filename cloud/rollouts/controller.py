"""The controller: steps all rollouts, one process at a time."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable

import structlog

from cloud.rollouts.entities import Conflict, Lease, LeaseLost
from cloud.rollouts.service import Rollouts

STEP_S = 0.3
SHARE = 4
"""Pauses are at least this many times as long as the steps: a large fleet does not take a whole processor."""
RENEW_S = 60.0

log = structlog.get_logger()


class Controller:
    """Steps the rollouts for as long as it holds the lease, and waits for it otherwise."""

    def __init__(self, rollouts: Rollouts, owner: str = "") -> None:
        self._rollouts = rollouts
        self._owner = owner or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._lease: Lease | None = None
        self._renewed_s = 0.0
        self.listeners: list[Callable[[Lease | None], None]] = []
        """Hear after each turn, in the loop's thread, by which lease this controller leads; None: it does not."""

    async def run(self) -> None:
        """Until cancelled; then another may lead at once."""
        try:
            while True:
                began_s = time.monotonic()
                await asyncio.to_thread(self._turn)
                self._tell(self._lease)
                await asyncio.sleep(max(STEP_S, SHARE * (time.monotonic() - began_s)))
        finally:
            self._tell(None)
            await self._resign()

    def _turn(self) -> None:
        """One pass. Whatever goes wrong in it has changed nothing, and the next one begins from what is stored."""
        try:
            if self._lead():
                self._rollouts.step(_now_ms(), self._lease)
                self._renew()
        except (LeaseLost, Conflict) as error:
            log.info("rollouts were written by someone else", reason=str(error))
        except Exception:
            log.exception("rollouts could not be stepped")

    def _tell(self, lease: Lease | None) -> None:
        for listener in self.listeners:
            listener(lease)

    def _lead(self) -> bool:
        lease = self._rollouts.lead(self._owner, _now_ms())
        if (lease and lease.token) != (self._lease and self._lease.token):
            log.info("leading the rollouts" if lease else "another controller leads", owner=self._owner)
        self._lease = lease
        return lease is not None

    def _renew(self) -> None:
        if time.monotonic() - self._renewed_s > RENEW_S or not self._renewed_s:
            self._rollouts.renew(_now_ms(), self._lease)
            self._renewed_s = time.monotonic()

    async def _resign(self) -> None:
        if self._lease is None:
            return
        try:
            await asyncio.to_thread(self._rollouts.resign, self._lease)
        except Exception:
            log.exception("the lease could not be given back: it runs out by itself")


def _now_ms() -> int:
    return int(time.time() * 1000)
