"""Results to an HTTP address, as JSON. Imported only where it is asked for: aiohttp takes 11 MB.

A batch is sent until it is taken, a few times with growing pauses; then it is lost, and counted. Meanwhile later ones
wait, as many as a sink keeps.
"""

from __future__ import annotations

import asyncio
import json

import aiohttp

from edge.inference.sinks import Sink, as_json
from protos.kit.columns import Results

TRIES = 5
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
ROWS_A_REQUEST = 1000
BUSY = frozenset({408, 425, 429})
"""Answers below 500 that ask to come again."""


class NotTaken(Exception):
    """The address did not take a batch. again: whether it may later."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class Webhook:
    """sink: what to offer results to. timeout_s: for one request, from the connection to the answer."""

    def __init__(self, url: str, token: str, device: str, timeout_s: float) -> None:
        self.sink = Sink("webhook", self._write)
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._device = device
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._failures = 0  # since the last success

    async def run(self) -> None:
        """Send what the sink is offered until cancelled."""
        async with aiohttp.ClientSession(headers=self._headers, timeout=self._timeout) as self._session:
            await self.sink.run()

    async def _write(self, results: Results) -> None:
        found = as_json(results)
        for start in range(0, len(found), ROWS_A_REQUEST):
            part = {"device": self._device, "results": found[start : start + ROWS_A_REQUEST]}
            await self._send(json.dumps(part).encode())

    async def _send(self, body: bytes) -> None:
        for tries_left in reversed(range(TRIES)):
            try:
                await self._post(body)
            except NotTaken as error:
                if not error.again or not tries_left:
                    raise
                await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 16)))
                self._failures += 1
            else:
                self._failures = 0
                return

    async def _post(self, body: bytes) -> None:
        assert self._session, "results are written while it runs"
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except TimeoutError as error:
            raise NotTaken(f"no answer within {self._timeout.total:g} s", again=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise NotTaken(str(error) or type(error).__name__, again=True) from error
        if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's range of success
            raise NotTaken(f"it answers {status}", again=status >= 500 or status in BUSY)  # noqa: PLR2004 - its own faults
