"""When the next message may go: the server may ask for silence, the settings may ask for a rate."""

from __future__ import annotations

import asyncio

from edge.uplink import rules


class Pace:
    """Of one stream. rate: most bytes a second; 0: without limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._paid_until = 0.0  # when the rate has room for the next message
        self._silent_until = 0.0

    @property
    def owed_s(self) -> float:
        """Seconds until the rate has room; not above 0: it has."""
        return self._paid_until - asyncio.get_running_loop().time() if self._rate else 0.0

    def pay(self, size: int) -> None:
        """A message of `size` bytes goes now."""
        self._paid_until = rules.paid_until(self._paid_until, asyncio.get_running_loop().time(), size, self._rate)

    def hush(self, milliseconds: int) -> None:
        """The server asks for silence from now on."""
        self._silent_until = asyncio.get_running_loop().time() + rules.pause_s(milliseconds)

    async def silence(self) -> None:
        """Return when the server wants to hear again."""
        loop = asyncio.get_running_loop()
        while (left := self._silent_until - loop.time()) > 0:  # noqa: ASYNC110 - the end is a time, and may move
            await asyncio.sleep(left)
