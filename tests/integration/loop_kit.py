"""The cloud and one device as processes, as an operator runs them; models are registered into the cloud's folder."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np

from cloud.app import compose
from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from cloud.foundation.settings import CloudSettings
from protos.kit.children import bound_to
from protos.kit.link import Address
from protos.v1.manifest_pb2 import Manifest
from simulators.ports import free_port
from tests.integration.device_kit import Device, now_ms

PATIENCE_S = 110
LOOK_S = 0.1


class Loop:
    """`littoral serve` on a folder of its own, and an agent that is not started yet. Its device is edge-1."""

    def __init__(self, folder: Path) -> None:
        self.settings = CloudSettings(
            dir=folder / "cloud", api_port=free_port(), ingest_port=free_port(), broker_port=free_port()
        )
        self.api = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.settings.api_port}", trust_env=False)
        address = Address("127.0.0.1", self.settings.broker_port)
        trust = SimpleNamespace(trust_path=self.settings.dir / "trust.json")
        self.device = Device(folder / "edge", SimpleNamespace(address=address, trust=trust))  # type: ignore[arg-type]
        self.frames = 0
        self._cloud: asyncio.subprocess.Process | None = None
        self._fleet = Fleet(Database(self.settings.database_url))

    def register(self, draft: Manifest, files: Mapping[str, bytes]) -> int:
        """The new version's number."""
        with compose(self.settings) as rooms:
            return rooms.registry.register(draft, files, now_ms()).version

    async def start_cloud(self) -> None:
        """Start `littoral serve`; returns when it is ready."""
        ports = {name: getattr(self.settings, f"{name}_port") for name in ("api", "ingest", "broker")}
        command = [sys.executable, "-m", "cloud.cli", "serve", "--dir", str(self.settings.dir)]
        command += [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
        quiet = asyncio.subprocess.DEVNULL
        self._cloud = await asyncio.create_subprocess_exec(*bound_to(os.getpid(), command), stderr=quiet)
        await self.until(lambda: _ready(self), bool)

    async def end_cloud(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal it and wait for its end."""
        assert self._cloud
        if self._cloud.returncode is None:
            self._cloud.send_signal(number)
        await self._cloud.wait()

    async def start_agent(self, *more: str) -> None:
        await self.device.start("--uplink", f"127.0.0.1:{self.settings.ingest_port}", *more)

    async def get(self, path: str) -> Any:
        return (await self.api.get(f"/api/v1{path}")).raise_for_status().json()

    async def post(self, path: str, body: object) -> Any:
        return (await self.api.post(f"/api/v1{path}", json=body)).raise_for_status().json()

    async def until(self, look: Callable[[], Awaitable[Any]], holds: Callable[[Any], object]) -> Any:
        """What `look` finds once that `holds`."""
        while not holds(found := await look()):  # noqa: ASYNC110 - the API is polled as a person would
            await asyncio.sleep(LOOK_S)
        return found

    async def rolled_out(self, version: int, model: str = "tiny") -> None:
        await self.until(lambda: self.get("/devices"), len)
        await self.post("/rollouts", {"model": model, "version": version, "waves": ["rest"]})
        await self.until(lambda: self.get("/devices"), lambda found: found[0]["version"] == version)

    async def feed(self, frames: np.ndarray) -> None:
        """Hand these frames in; returns when their results are durable on the device."""
        replies = await self.device.feed(frames, self.frames + 1)
        assert not any(reply.problem for reply in replies), replies
        self.frames += len(frames)
        assert replies[-1].watermark == self.frames

    async def running(self, slot: str) -> bytes:
        """The manifest that runs in a slot by the device's last report; empty: none."""
        slots = (await asyncio.to_thread(self._fleet.device, "edge-1")).slots
        return slots[slot].running if slot in slots else b""

    async def challenger(self) -> Any:
        """As the API shows it."""
        found = (await self.get("/shadow"))["devices"]
        return found[0] if found else {"state": "", "compared": 0}


@asynccontextmanager
async def _serving(loop: Loop) -> AsyncIterator[None]:
    try:
        await loop.start_cloud()
        yield
    finally:
        await loop.end_cloud(signal.SIGTERM)


async def _ready(loop: Loop) -> bool:
    try:
        return (await loop.api.get("/readyz")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def play(folder: Path, prepare: Callable[[Loop], None], scene: Callable[[Loop], Awaitable[None]]) -> None:
    """Register models by `prepare`, then act out a scene with the cloud running."""

    async def main() -> None:
        loop = Loop(folder)
        prepare(loop)
        async with loop.api, asyncio.timeout(PATIENCE_S), _serving(loop):
            try:
                await scene(loop)
            finally:
                if loop.device.process and loop.device.process.returncode is None:
                    await loop.device.end()

    asyncio.run(main())
