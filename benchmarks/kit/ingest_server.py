"""The ingest alone in a process: `python -m benchmarks.kit.ingest_server URL` prints its address, serves until killed.

What `littoral serve --role ingest` runs, without a registry: one model version is known, `KNOWN`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud.foundation.database import Database
from cloud.foundation.settings import CloudSettings
from cloud.uplink.entities import KnownVersion
from cloud.uplink.merge import Merger
from cloud.uplink.rpc import UplinkService
from cloud.uplink.server import IngestServer
from cloud.uplink.service import Ingest
from protos.kit import logs
from protos.kit.children import bound_to

KNOWN = KnownVersion("digits", 1, classes=10)
MANIFEST = b"m" * 32


async def serve(url: str) -> None:
    """Serve on a free port of the loopback, with the settings' defaults."""
    settings = CloudSettings()
    logs.configure("warning")  # on standard error: what nobody reads on standard output would stop us once it is full
    database = Database(url)
    database.create()
    ingest = Ingest(database, {MANIFEST: KNOWN}.get)
    merger = Merger(ingest.commit, rows=settings.ingest_rows, wait_s=settings.ingest_ms / 1000)
    server = IngestServer(UplinkService(ingest, merger, lambda _device, _telemetry: None))
    port = server.bind("127.0.0.1", 0)
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await merger.run()


class Server:
    """A running one."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Resident memory now, or with "VmHWM" the most there was."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


@contextmanager
def serving(url: str) -> Iterator[Server]:
    """A server on the database, killed at the end."""
    command = bound_to(os.getpid(), [sys.executable, "-m", __name__, url])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(process, process.stdout.readline().strip())
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
