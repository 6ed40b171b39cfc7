"""The whole HTTP API: every room's routes, and what belongs to no room: health, metrics, limits of a request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.foundation.metrics import exposition
from protos.kit import bearer

MAX_BODY_BYTES = 1024 * 1024
READING = frozenset({"GET", "HEAD", "OPTIONS"})


def create_api(
    routers: Iterable[APIRouter],
    readiness: Callable[[], Mapping[str, bool]],
    streamed: Collection[str] = (),
    token: str = "",
) -> FastAPI:
    """The API made of the rooms' routers.

    `readiness` tells of each part of this process whether it can do its work now. streamed: paths below which routes
    read bodies themselves, and limit them. token: what changes something must show it; empty: nothing need.
    """
    api = FastAPI(title="Littoral", version=_version(), description="Models to the edge, results to the cloud.")
    for router in routers:
        api.include_router(router)
    api.add_middleware(BodyLimit, limit=MAX_BODY_BYTES, streamed=streamed)
    api.add_middleware(NoNul)
    if token:
        api.add_middleware(
            Guarded, token=token, whole=streamed
        )  # the outermost: of who shows none no byte of a body is read

    @api.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @api.get("/readyz", tags=["health"])
    def readyz() -> JSONResponse:
        """Whether each part can do its work: 200 if all can, else 503."""
        parts = readiness()
        return JSONResponse(dict(parts), 200 if all(parts.values()) else 503)

    @api.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        """What this process counts and measures, for Prometheus."""
        text, media_type = exposition(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    return api


class BodyLimit:
    """Refuses a request whose body is larger than `limit` bytes with 413, before anything else reads it (ASGI 3).

    Those below a `streamed` path are let through as they come.
    """

    def __init__(self, app: ASGIApp, limit: int, streamed: Collection[str] = ()) -> None:
        self._app = app
        self._limit = limit
        self._streamed = tuple(f"{path}/" for path in streamed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(self._streamed):
            await self._app(scope, receive, send)
            return
        try:
            body = await self._body(scope, receive)
        except _TooLarge:
            text = f"a request may have {self._limit} bytes: send less at a time"
            await JSONResponse({"detail": text}, 413)(scope, receive, send)
            return
        except _Gone:
            return
        read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return read.pop() if read else await receive()

        await self._app(scope, replay, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if int(declared) > self._limit:
            raise _TooLarge
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                raise _TooLarge
        return body


class NoNul:
    """Refuses an address with a NUL in it, with 422: no name has one, and PostgreSQL cannot even be asked (ASGI 3)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            await JSONResponse({"detail": "the address has a NUL (%00) in it: leave it out"}, 422)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Guarded:
    """Refuses requests that change something and do not show the token, with 401 (ASGI 3). Reading stays open to all.

    But for what is below a `whole` path: who asks there wants to change something in the end, after long work maybe.
    """

    def __init__(self, app: ASGIApp, token: str, whole: Collection[str] = ()) -> None:
        self._app = app
        self._token = token
        self._whole = tuple(f"{path}/" for path in whole)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or self._lets(scope):
            await self._app(scope, receive, send)
            return
        text = f"this API lets only those change something who show its token: set {bearer.VARIABLE}"
        headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
        await JSONResponse({"detail": text}, 401, headers)(scope, receive, send)

    def _lets(self, scope: Scope) -> bool:
        is_open = scope["method"] in READING and not scope["path"].startswith(self._whole)
        return is_open or bearer.shows(dict(scope["headers"]), self._token)


class _TooLarge(Exception):
    pass


class _Gone(Exception):
    """The client has left in the middle of its request."""


def _version() -> str:
    try:
        return version("littoral")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
