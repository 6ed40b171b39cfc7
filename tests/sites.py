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

import pytest

from cloud.foundation.broker import Kind, embedded_broker
from protos.kit.children import bound_to
from protos.kit.link import Address, Link
from simulators.ports import free_port

PATIENCE_S = 90

os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian puts mosquitto; not on an ordinary user's PATH
_MOSQUITTO = pytest.param(
    "mosquitto", marks=pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
)
both = pytest.mark.parametrize("kind", ["amqtt", _MOSQUITTO])


class Site:
    """A port for a broker of one kind, and links to it."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self._kind = kind
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

    @asynccontextmanager
    async def link(self, name: str) -> AsyncIterator[Link]:
        """A running link to the broker, whether it is there or not."""
        link = Link(self.address, name)
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


def scenario(kind: Kind, folder: Path, test: Callable[[Site], Awaitable[None]]) -> None:
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
