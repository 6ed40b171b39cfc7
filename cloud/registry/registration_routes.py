"""Registrations over HTTP: a model that was trained where there is no database and no key becomes a version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from cloud.registry.entities import ModelVersion, Unpublishable, described
from cloud.registry.receiving import NAME, Receiving
from cloud.registry.service import Registry
from protos.kit.keys import KeysFailed

PREFIX = "/api/v1/registrations"
"""Requests below it are read by its own routes, as they come, and have limits of their own."""

AT_ONCE = 2
"""Registrations that one process takes in: each may be large. Others wait."""

PIECE_S = 30.0
"""Whoever sends nothing for so long is sent away."""

Name = Annotated[str, Path(pattern=f"^{NAME}$")]
Check = Callable[[str, int], None]
"""Raises KeysFailed if no version of this model could be promised to devices now (Unix ms)."""


def router(registry: Registry, check: Check, now_ms: Callable[[], int] = lambda: int(time.time() * 1000)) -> APIRouter:
    """GET and PUT /api/v1/registrations/{name}."""
    routes = APIRouter(prefix=PREFIX, tags=["models"])
    at_once = asyncio.Semaphore(AT_ONCE)

    @routes.get("/{name}")
    def show(name: Name, model: Annotated[str | None, Query(max_length=63)] = None) -> dict[str, object]:
        """What was registered under this name. 404: nothing yet; 409: and `model` could not be either, and why."""
        if found := registry.registered_as(name):
            return described(found)
        if model is not None:
            _checked(check, model, now_ms())
        raise HTTPException(404, f"nothing was registered as {name!r}")

    @routes.put("/{name}", status_code=201)
    async def register(name: Name, request: Request) -> JSONResponse:
        """Register a model version under a name: the draft and its files, in the form of cloud/registry/receiving.py.

        Done again, with whatever body, it answers 200 and what was registered first: nobody who lost the answer, or
        trained again, registers twice.
        """
        if before := await run_in_threadpool(registry.registered_as, name):
            return JSONResponse(described(before), 200, {"Connection": "close"})
        async with at_once:
            version = await _received(request, lambda received: _register(registry, received, name, now_ms()))
        return JSONResponse(described(version), 201)

    return routes


async def _received(request: Request, then: Callable[[Receiving], ModelVersion]) -> ModelVersion:
    """What `then` makes of the whole body, in a thread."""
    receiving, pieces = Receiving(), request.stream()
    try:
        while True:
            async with asyncio.timeout(PIECE_S):
                piece = await anext(pieces, None)
            if piece is None:
                return await run_in_threadpool(then, receiving)
            receiving.take(piece)
    except Unpublishable as error:
        raise HTTPException(422, str(error), {"Connection": "close"}) from error
    except KeysFailed as error:
        raise HTTPException(409, str(error)) from error
    except TimeoutError as error:
        raise HTTPException(408, f"nothing came for {PIECE_S:g} s", {"Connection": "close"}) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the request broke off") from error


def _register(registry: Registry, received: Receiving, name: str, now_ms: int) -> ModelVersion:
    return registry.register(received.draft, received.finished(), now_ms, name)


def _checked(check: Check, model: str, now_ms: int) -> None:
    try:
        check(model, now_ms)
    except KeysFailed as error:
        raise HTTPException(409, str(error)) from error
