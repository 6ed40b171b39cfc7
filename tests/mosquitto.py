"""A Mosquitto that tests stop, kill, pause and start again, and that keeps what is retained on disk if told to."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloud.foundation.broker import mosquitto_config
from protos.kit.children import bound_to
from protos.kit.link import Address
from simulators.ports import free_port

needs_mosquitto = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")


class Mosquitto:
    """One broker in a process of its own; always on the same port."""

    def __init__(self, folder: Path, *, persistent: bool) -> None:
        self.address = Address("127.0.0.1", free_port())
        self._config = folder / "test-mosquitto.conf"
        lines = mosquitto_config(self.address.host, self.address.port, as_root=os.geteuid() == 0)
        if persistent:
            lines = lines.replace("persistence false", f"persistence true\npersistence_location {folder}/")
        self._config.write_text(lines)
        self._process: Process | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Mosquitto]:
        """Started, and ended at the latest with the block."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def start(self) -> None:
        """Return when it takes connections."""
        command = bound_to(os.getpid(), ["mosquitto", "-c", str(self._config)])
        self._process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        while not await self._accepts():
            assert self._process.returncode is None, "mosquitto did not start"
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End it in order: it writes down what it has to keep."""
        if self._process and self._process.returncode is None:
            self.go_on()
            self._process.terminate()
            await self._process.wait()

    def pause(self) -> None:
        """It does nothing any more, and its connections stay open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.address.host, self.address.port)
        except OSError:
            return False
        writer.close()
        return True
