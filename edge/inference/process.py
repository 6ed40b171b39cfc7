"""One life of a worker's process: started, heard, asked, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import edge
from edge.inference.entities import BadModel, Blueprint, Cost, MicroBatch
from edge.inference.messages import REPLY, REQUEST, Kind, Message, order
from edge.inference.slots import Layout, attach, share
from protos.kit.children import bound_to, ending

START_S = 60.0
"""A model that is not loaded by then never will be."""

GRACE_S = 1.0
"""How long a process may take to end by itself."""

SETTINGS = "LITTORAL_"
"""Environment variables that a model has no business with: they may hold a broker's password."""


class Process:
    """A worker that has loaded its model. `heard` gets its replies, `lost` is called once when it is gone."""

    def __init__(
        self, child: asyncio.subprocess.Process, connection: socket.socket, memory: int, layout: Layout
    ) -> None:
        self._child = child
        self._connection = connection
        self._slots = attach(memory, layout)
        self._received = b""
        self.heard: Callable[[Message], None] = lambda _: None
        self.lost: Callable[[], None] = lambda: None

    @classmethod
    async def start(cls, blueprint: Blueprint, layout: Layout) -> tuple[Process, Cost]:
        """Start it, and have it load the model. Raises BadModel, or OSError when there can be no process now."""
        memory = share(layout)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                child = await _spawn(theirs.fileno(), memory, order(blueprint, layout))
            process = cls(child, ours, memory, layout)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(memory)
        try:
            cost = await asyncio.wait_for(process._hello(), START_S)
        except TimeoutError:
            await process.end(grace_s=0)
            raise BadModel(f"variant {blueprint.variant.name!r} was not loaded within {START_S:g} s") from None
        except BaseException:
            await process.end(grace_s=0)
            raise
        asyncio.get_running_loop().add_reader(ours, process._read)
        return process, cost

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def ask(self, slot: int, batch: MicroBatch) -> None:
        """Have the frames answered; `slot` must be free."""
        self._slots[slot].put(batch)
        with suppress(ConnectionError):  # it has just ended: `lost` follows
            self._connection.send(REQUEST.pack(slot, len(batch)))

    def result(self, message: Message) -> bytes:
        """What a reply speaks of."""
        return self._slots[message.slot].result(message.length)

    async def end(self, grace_s: float = GRACE_S) -> str:
        """Make it end, with all that it started, and say how it did."""
        if self._connection.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._connection)
            self._connection.close()  # which tells it to end
        try:
            if grace_s:
                await asyncio.wait_for(self._child.wait(), grace_s)
        except TimeoutError:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        return ending(await self._child.wait())

    async def _hello(self) -> Cost:
        loop, data = asyncio.get_running_loop(), b""
        while len(data) < REPLY.size:
            part = await loop.sock_recv(self._connection, REPLY.size - len(data))
            if not part:
                raise BadModel(f"the process that loaded it {await self.end()}")
            data += part
        message = Message.unpacked(REPLY.unpack(data))
        if message.kind is not Kind.READY:
            raise BadModel(self.result(message).decode(errors="replace"))
        fixed_ns, frame_ns, best = message.numbers
        return Cost(fixed_ns / 1000, frame_ns / 1000, max(1, best))

    def _read(self) -> None:
        try:
            data = self._connection.recv(1 << 16)
        except BlockingIOError:
            return None
        except ConnectionError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._connection)
            return self.lost()
        self._received += data
        while len(self._received) >= REPLY.size:
            message = Message.unpacked(REPLY.unpack_from(self._received))
            self._received = self._received[REPLY.size :]
            self.heard(message)
        return None


async def _spawn(connection: int, memory: int, text: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-P", "-m", "edge.inference.worker", str(connection), str(memory), text]
    return await asyncio.create_subprocess_exec(
        *bound_to(os.getpid(), command),
        pass_fds=(connection, memory),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,  # what it starts itself ends with it
    )


def _environment() -> dict[str, str]:
    """So that the worker finds the same code. One thread for numpy, which has nothing large to do there."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    paths = [str(Path(edge.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return inherited | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
