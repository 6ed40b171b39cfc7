"""The agent's status for people on the device: a Unix socket that answers each connection with one JSON object."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

STATUS_SOCKET = "status.sock"
MAX_BYTES = 64 * 1024
TIMEOUT_S = 5.0
RETRY_S = 60.0

log = structlog.get_logger()


class NoAnswer(Exception):
    """No agent answers on this socket."""


async def serve(path: Path, describe: Callable[[], Mapping[str, object]]) -> None:
    """Answer until cancelled. The caller owns the folder: a socket that a killed agent left behind is replaced.

    An agent works without it: where there can be no socket now, it is tried again later.
    """

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(describe()).encode())
        writer.close()

    while True:
        try:
            _remove(path)
            async with await asyncio.start_unix_server(answer, path) as server:
                await server.serve_forever()
        except OSError as error:
            log.warning("no status for people on the device", socket=str(path), error=str(error))
            await asyncio.sleep(RETRY_S)
        finally:
            _remove(path)


def ask(path: Path) -> dict[str, Any]:
    """The status of the agent behind `path`. Raises NoAnswer."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            answer = b"".join(iter(lambda: connection.recv(MAX_BYTES), b""))
        status = json.loads(answer)
    except (OSError, ValueError) as error:
        raise NoAnswer(f"no agent answers on {path}: {error}") from error
    if not isinstance(status, dict):
        raise NoAnswer(f"what answers on {path} is no agent")
    return status


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
