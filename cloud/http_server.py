"""An HTTP server inside the process: it tells when it accepts connections, and leaves signals alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

REQUESTS_S = 3
"""Requests that are under way at the end may take this long."""


class HttpServer(uvicorn.Server):
    """Serves an application; `accepting` is set once it does."""

    def __init__(self, api: FastAPI) -> None:
        # No lifespan: the rooms live as long as the process, whether or not this role is among its own.
        super().__init__(
            uvicorn.Config(api, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=REQUESTS_S)
        )
        self.accepting = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.accepting.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for the whole process, which ends this server in its turn."""
        yield


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has the address from now on. Raises OSError."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # only now nobody else can have the address
        yield listener
