"""Ingests and devices in processes that start within milliseconds and are killed without warning."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from cloud.foundation.database import Database
from cloud.uplink.entities import Outcome, ReceivedBatch
from cloud.uplink.merge import Commit, Merger
from cloud.uplink.rpc import UplinkService
from cloud.uplink.server import IngestServer
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import Uplink
from protos.kit import logs
from protos.kit.kinds import Kind
from tests.forkserver import starting
from tests.integration.uplink_kit import CONTENT, known
from tests.kinds import ingest_of_all_kinds
from tests.waiting import eventually

ROWS = 5
SOURCE = "camera"

_context = starting(__name__)


def start(work: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Run `work` in a process of its own."""
    process = _context.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


async def start_server(url: str) -> tuple[ForkServerProcess, str]:
    """An ingest that accepts connections, and where."""
    port = free_port()
    server = await asyncio.to_thread(start, serve, url, port)
    while True:
        with suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return server, f"127.0.0.1:{port}"
        await asyncio.sleep(0.01)


def kill(process: ForkServerProcess) -> None:
    """SIGKILL, and wait until nothing is left of it."""
    process.kill()
    process.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def either(ports: Sequence[int]) -> str:
    """One gRPC target for several servers: a device goes to any that answers."""
    return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)


def serve(url: str, port: int, killed_at_commit: int = 0) -> None:
    """An ingest; it kills itself after its commit `killed_at_commit` and before the acknowledgement."""

    async def main() -> None:
        database = Database(url)
        ingest = ingest_of_all_kinds(database, known)
        commit = _killed_after(ingest.commit, killed_at_commit) if killed_at_commit else ingest.commit
        merger = Merger(commit, rows=5000, wait_s=0.005)
        server = IngestServer(UplinkService(ingest, merger, lambda _device, _telemetry: None))
        server.bind("127.0.0.1", port)
        await server.start()
        await merger.run()

    logs.configure("critical")
    asyncio.run(main())


def _killed_after(commit: Commit, number: int) -> Commit:
    left = itertools.count(number - 1, -1)

    def committed(batches: Sequence[ReceivedBatch], now_ms: int) -> Sequence[Outcome]:
        outcomes = commit(batches, now_ms)
        if not next(left):
            os.kill(os.getpid(), signal.SIGKILL)
        return outcomes

    return committed


class Witnessed(Outbox):
    """An outbox that writes down, beside its file, what it is told to be acknowledged, before it deletes anything."""

    def acknowledge(self, watermark: int) -> None:
        with self._path.with_suffix(".acknowledged").open("ab", buffering=0) as witness:
            witness.write(watermark.to_bytes(8, "big"))
        super().acknowledge(watermark)


def acknowledged(outbox: Path) -> int:
    """The highest watermark that a device was ever told."""
    told = outbox.with_suffix(".acknowledged").read_bytes() if outbox.with_suffix(".acknowledged").exists() else b""
    return max((int.from_bytes(told[i : i + 8], "big") for i in range(0, len(told), 8)), default=0)


def outbox_of(path: Path, kind: Kind) -> Path:
    """Where a device whose results' outbox is at `path` has that of another kind."""
    return path if kind is Kind.RESULTS else path.with_name(f"{path.stem}-{kind}.db")


def device(target: str, name: str, path: Path, stop: Path, batches_s: float) -> None:
    """A device: of each kind a sensor that goes on where its outbox is, until `stop` exists; then all is sent."""
    files = {kind: outbox_of(path, kind) for kind in Kind}
    _live(target, name, files, lambda kind, outbox: _sense(kind, outbox, stop, batches_s))


def device_of_kinds(target: str, name: str, folder: Path, stop: Path, batches_s: float) -> None:
    """A device with an outbox for each kind in `folder`, each fed as above with numbers for payloads."""
    files = {kind: folder / f"{kind}.db" for kind in Kind}
    _live(target, name, files, lambda _, outbox: _number(outbox, stop, batches_s))


def _live(target: str, name: str, files: Mapping[Kind, Path], feed: Callable[[Kind, Outbox], None]) -> None:
    async def main() -> None:
        outboxes = {kind: Witnessed.open(path, 1 << 30) for kind, path in files.items()}
        feeding = [asyncio.create_task(asyncio.to_thread(feed, *one)) for one in outboxes.items()]
        beside: dict[Kind, Outbox] = {kind: one for kind, one in outboxes.items() if kind is not Kind.RESULTS}
        uplink = Uplink(target, name, outboxes[Kind.RESULTS], lambda: 0.05, beside=beside)
        streaming = asyncio.create_task(uplink.run())
        await asyncio.gather(*feeding)
        await eventually(lambda: not any(outbox.depth().rows for outbox in outboxes.values()))
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
        for outbox in outboxes.values():
            outbox.close()

    logs.configure("critical")
    asyncio.run(main())


def _number(outbox: Outbox, stop: Path, batches_s: float) -> None:
    pause = threading.Event()
    while not stop.exists():
        number = outbox.source_watermark(SOURCE) + 1
        outbox.append([NewBatch(1, b"%d" % number, SOURCE, number)])
        pause.wait(random.expovariate(batches_s))


def _sense(kind: Kind, outbox: Outbox, stop: Path, batches_s: float) -> None:
    pause, content = threading.Event(), CONTENT[kind]
    while not stop.exists():
        first = outbox.source_watermark(SOURCE) + 1
        outbox.append([NewBatch(ROWS, content(first, ROWS), SOURCE, first + ROWS - 1)])
        pause.wait(random.expovariate(batches_s))
