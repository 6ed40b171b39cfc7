"""The Open Inference Protocol by HTTP, with its binary tensor extension: converts between JSON and the data plane.

Imported only where it is asked for: aiohttp takes 11 MB.
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from aiohttp import web
from aiohttp.typedefs import Handler
from numpy.typing import NDArray

from edge.foundation.version import agent_version
from edge.inference import data_plane
from edge.inference.data_plane import DataPlane, Given, NoModel, Tensor, UnknownModel, WrongRequest
from edge.inference.requests import Answer, Unanswered
from protos.topics import MAX_GRPC_BYTES

MAX_BODY_BYTES = MAX_GRPC_BYTES
MOST_AT_ONCE = 32
"""Requests whose bodies are in memory; others are read when it is their turn."""

READ_S = 30.0
"""So long may a body take to come."""

JSON_BYTES = "Inference-Header-Content-Length"
BINARY = "binary_tensor_data"

STATUS: Mapping[type[Exception], int] = {
    NoModel: 503,
    Unanswered: 503,
    UnknownModel: 404,
    ValueError: 400,
    TimeoutError: 408,
}


class Routes:
    """What an application on the device may ask."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    def application(self) -> web.Application:
        """All paths."""
        made = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
        made.add_routes([web.get("/v2", self._server), web.get("/v2/", self._server)])
        made.add_routes([web.get("/v2/health/live", self._live), web.get("/v2/health/ready", self._ready)])
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            made.add_routes(
                [
                    web.get(model, self._metadata),
                    web.get(f"{model}/ready", self._model_ready),
                    web.post(f"{model}/infer", self._infer),
                ]
            )
        return made

    async def _server(self, _: web.Request) -> web.Response:
        told = {"name": data_plane.SERVER, "version": agent_version(), "extensions": [BINARY]}
        return web.json_response(told)

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _: web.Request) -> web.Response:
        return _truth({"ready": self._plane.ready})

    async def _model_ready(self, request: web.Request) -> web.Response:
        model, version = _named(request)
        return _truth({"name": model, "ready": self._plane.has(model, version)})

    async def _metadata(self, request: web.Request) -> web.Response:
        serving = self._plane.serving(*_named(request))
        return web.json_response(
            {
                "name": serving.model,
                "versions": [str(serving.version)],
                "platform": data_plane.PLATFORM,
                "inputs": [_described(data_plane.taken(serving))],
                "outputs": [_described(tensor) for tensor in data_plane.OUTPUTS],
            }
        )

    async def _infer(self, request: web.Request) -> web.Response:
        async with self._turns:
            async with asyncio.timeout(READ_S):
                body = await request.read()
            asked, binary = _parsed(body, request.headers.get(JSON_BYTES))
            outputs = _requested(asked)
            answer = await self._plane.infer(*_named(request), _given(asked, binary), list(outputs))
        return _response(_id(asked), answer, outputs, whole=_flag(asked, "binary_data_output"))


@asynccontextmanager
async def http_server(plane: DataPlane, host: str, port: int) -> AsyncIterator[None]:
    """Answer at this address within the block. Raises OSError if it cannot be had."""
    runner = web.AppRunner(Routes(plane).application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is JSON that says what was wrong."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        text = f"a request has {MAX_BODY_BYTES} bytes at most: send fewer frames at once"
        return web.json_response({"error": text}, status=413)
    except web.RequestPayloadError as error:  # such as a body that is not compressed as its header says
        answer = web.json_response({"error": f"the body cannot be read: {error}"}, status=400)
        answer.force_close()  # where the next request begins on this connection is not known
        return answer
    except web.HTTPException as error:
        text = f"{request.method} {request.path}: {error.reason}"
        return web.json_response({"error": text}, status=error.status, headers=_allowed(error))
    except tuple(STATUS) as error:
        status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
        return web.json_response({"error": str(error) or "the request did not come in time"}, status=status)


def _allowed(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


def _named(request: web.Request) -> tuple[str, str]:
    return request.match_info["model"], request.match_info.get("version", "")


def _truth(told: dict[str, object]) -> web.Response:
    """The protocol has clients look at the status alone: 4xx is no."""
    return web.json_response(told, status=200 if told["ready"] else 400)


def _described(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _parsed(body: bytes, json_bytes: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON object at the front of the body, and the bytes behind it."""
    if json_bytes is not None and not (json_bytes.isdecimal() and int(json_bytes) <= len(body)):
        raise WrongRequest(f"{JSON_BYTES} is {json_bytes!r}, of a body of {len(body)} bytes")
    length = len(body) if json_bytes is None else int(json_bytes)
    try:
        asked = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise WrongRequest(f"the request is no JSON: {error}") from error
    if not isinstance(asked, dict):
        raise WrongRequest("the request is no JSON object: send one with inputs")
    return asked, body[length:]


def _given(asked: dict[str, Any], binary: bytes) -> list[Given]:
    found, start = [], 0
    for fields in _objects(asked, "inputs"):
        shape = fields.get("shape")
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise WrongRequest(f"the shape of an input is {shape!r}: send a list of whole numbers")
        tensor = Tensor(str(fields.get("name")), str(fields.get("datatype")), tuple(shape))
        size = _parameters(fields).get("binary_data_size")
        if size is None:
            data = fields.get("data")
            found.append(Given(tensor, data if isinstance(data, list) else []))
            continue
        if type(size) is not int or not 0 <= size <= len(binary) - start:
            raise WrongRequest(f"binary_data_size is {size!r}, and {len(binary) - start} bytes follow the JSON")
        found.append(Given(tensor, binary[start : start + size]))
        start += size
    return found


def _id(asked: dict[str, Any]) -> str:
    return "" if asked.get("id") is None else str(asked["id"])


def _requested(asked: dict[str, Any]) -> dict[str, bool]:
    """The outputs that are asked for by name, and whether as binary data."""
    return {str(fields.get("name")): _flag(fields, "binary_data") for fields in _objects(asked, "outputs")}


def _objects(asked: dict[str, Any], name: str) -> Sequence[dict[str, Any]]:
    found = asked.get(name) or []
    if not isinstance(found, list) or not all(isinstance(fields, dict) for fields in found):
        raise WrongRequest(f"{name} is no list of objects")
    return found


def _parameters(fields: dict[str, Any]) -> dict[str, Any]:
    found = fields.get("parameters") or {}
    if not isinstance(found, dict):
        raise WrongRequest("parameters is no object")
    return found


def _flag(fields: dict[str, Any], name: str) -> bool:
    return _parameters(fields).get(name) is True


def _response(request_id: str, answer: Answer, outputs: Mapping[str, bool], *, whole: bool) -> web.Response:
    columns = data_plane.answered(answer, outputs)
    binary = {tensor.name: column.tobytes() for tensor, column in columns.items() if outputs.get(tensor.name, whole)}
    told = {
        "model_name": answer.model,
        "model_version": str(answer.version),
        "id": request_id,
        "outputs": [_output(tensor, column, binary.get(tensor.name)) for tensor, column in columns.items()],
    }
    text = json.dumps(told).encode()
    if not binary:
        return web.Response(body=text, content_type="application/json")
    headers = {JSON_BYTES: str(len(text))}
    body = b"".join([text, *binary.values()])
    return web.Response(body=body, headers=headers, content_type="application/octet-stream")


def _output(tensor: Tensor, column: NDArray[np.generic], binary: bytes | None) -> dict[str, object]:
    described = _described(tensor)
    if binary is None:
        return described | {"data": column.tolist()}
    return described | {"parameters": {"binary_data_size": len(binary)}}
