"""A broker in a process of its own that tests stop and start again on the same port: `python -m tests.sites` is it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from cloud.foundation.broker import Kind, embedded_broker
from protos.kit.children import bound_to
from protos.kit.link import Address, Link, Mqtt, Will
from simulators.ports import free_port

PATIENCE_S = 90

os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian puts mosquitto; not on an ordinary user's PATH
_MOSQUITTO = pytest.param(
    "mosquitto", marks=pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
)
_MOSQUITTO_3 = pytest.param(
    "mosquitto 3.1.1", marks=pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
)
Sort = Literal["amqtt", "mosquitto", "mosquitto 3.1.1"]
"""A broker, and the version of MQTT that is spoken with it, if it speaks a newer one too."""

both = pytest.mark.parametrize("kind", ["amqtt", _MOSQUITTO])
every = pytest.mark.parametrize("kind", ["amqtt", _MOSQUITTO, _MOSQUITTO_3])


class Site:
    """A port for a broker of one kind, and links to it."""

    def __init__(self, sort: Sort, folder: Path) -> None:
        self._kind: Kind = "amqtt" if sort == "amqtt" else "mosquitto"
        self._mqtt: Mqtt = "3.1.1" if sort == "mosquitto 3.1.1" else "auto"
        self._folder = folder
        self.address = Address("127.0.0.1", free_port())

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[None]:
        """A broker that remembers nothing, killed at the end."""
        command = [sys.executable, "-m", "tests.sites", self._kind, str(self.address.port), str(self._folder)]
        child = await asyncio.create_subprocess_exec(
            *bound_to(os.getpid(), command), cwd=Path(__file__).parent.parent, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await self._until(child, accepting=True)
            yield
        finally:
            child.kill()
            await child.wait()
            await self._until(child, accepting=False)

    def new(self, name: str, will: Will | None = None) -> Link:
        """A link that its owner runs."""
        return Link(self.address, name, will, self._mqtt)

    @asynccontextmanager
    async def link(self, name: str) -> AsyncIterator[Link]:
        """A running link to the broker, whether it is there or not."""
        link = self.new(name)
        async with running(link):
            yield link

    async def _until(self, child: Process, *, accepting: bool) -> None:
        while await self._accepts() != accepting:
            assert not accepting or child.returncode is None, "the broker did not start"
            await asyncio.sleep(0.02)

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.address.host, self.address.port)
        except OSError:
            return False
        writer.close()
        return True


@asynccontextmanager
async def running(link: Link) -> AsyncIterator[None]:
    """Run `link` meanwhile."""
    task = asyncio.create_task(link.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def scenario(kind: Sort, folder: Path, test: Callable[[Site], Awaitable[None]]) -> None:
    """Run `test`, and fail it rather than wait for ever."""

    async def run() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test(Site(kind, folder))

    asyncio.run(run())


async def _serve(kind: Kind, port: int, folder: Path) -> None:
    async with embedded_broker(kind, "127.0.0.1", port, folder):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve("amqtt" if sys.argv[1] == "amqtt" else "mosquitto", int(sys.argv[2]), Path(sys.argv[3])))
