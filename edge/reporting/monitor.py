"""The device's HTTP page for machines: /metrics, /healthz, /readyz, in threads: a hanging agent answers, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import make_wsgi_app

from edge.inference.sinks import Sink
from edge.reporting.health import Health
from edge.reporting.metrics import registry
from edge.reporting.service import Parts

PATIENCE_S = 5.0
"""A visitor who says nothing for so long is sent away."""

MOST_VISITORS = 8
RETRY_S = 30.0

log = structlog.get_logger()


async def serve(host: str, port: int, health: Health, parts: Parts, sinks: Mapping[str, Sink]) -> None:
    """Serve until cancelled. sinks: by name. An agent works without it: a port that is taken is tried again later."""
    application = pages(health, make_wsgi_app(registry(parts, sinks)))
    while True:
        try:
            server = _Server((host, port), _Handler)
        except OSError as error:
            log.warning("no metrics and no health page", address=f"{host}:{port}", error=str(error))
            await asyncio.sleep(RETRY_S)
        else:
            return await _until_cancelled(server, application)


async def _until_cancelled(server: _Server, application: WSGIApplication) -> None:
    server.set_app(application)
    thread = Thread(target=server.serve_forever, name="monitor", daemon=True)
    thread.start()
    try:
        await asyncio.Event().wait()
    finally:
        server.shutdown()
        server.server_close()


def pages(health: Health, metrics: WSGIApplication) -> WSGIApplication:
    """The three pages as one application."""
    looks: dict[str, Callable[[], str]] = {"/healthz": health.live, "/readyz": health.ready}

    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = str(environment["PATH_INFO"])
        if path == "/metrics":
            return metrics(environment, start)
        if path not in looks:
            return _said(start, "404 Not Found", "here are /metrics, /healthz and /readyz")
        problem = looks[path]()
        return _said(start, "503 Service Unavailable" if problem else "200 OK", problem or "ok")

    return answer


def _said(start: StartResponse, status: str, text: str) -> list[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
    return [f"{text}\n".encode()]


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each visitor, and never more than a few of them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - as the library has them
        super().__init__(*arguments)
        self._places = BoundedSemaphore(MOST_VISITORS)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Take a visitor in, or send them away if all places are taken."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Serve one visitor."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - as above
        """A visitor who breaks off is no news."""
        log.debug("a visitor of the health page was not served")


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_S

    def log_message(self, *_: object) -> None:
        """Scrapes are no news."""

    def address_string(self) -> str:
        """Without asking the name service for the visitor's name."""
        return str(self.client_address[0])
