"""A foreign client of the Open Inference Protocol asks over the device's loopback, by HTTP and by gRPC."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from edge.inference.entities import Blueprint, Limits
from edge.inference.routes import JSON_BYTES, MAX_BODY_BYTES
from edge.inference.rpc import Ports, SocketUnusable, frames_server
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from simulators.ports import free_port
from tests import in_thread, tiny_models

GOOD = tiny_models.int8(tiny_models.weights())
Post = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]


def blueprint(folder: Path) -> Blueprint:
    manifest = tiny_models.manifest({"int8": GOOD})
    file = folder / "model.tflite"
    file.write_bytes(GOOD)
    return Blueprint(file, manifest.variants[0], manifest.preprocessing, 1, bytes(32), "tiny", 7)


def serve(
    folder: Path, ports: Ports, scene: Callable[[Inference], Awaitable[None]], *, with_model: bool = True
) -> None:
    async def main() -> None:
        outbox = Outbox.open(folder / "outbox.db", 1 << 30)
        inference = Inference(outbox, Limits(batch_frames=16), in_thread.start)
        if with_model:
            await inference.use(blueprint(folder))
        running = asyncio.create_task(inference.run())
        try:
            async with frames_server(inference, folder / "frames.sock", ports):
                await scene(inference)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            outbox.close()

    asyncio.run(main())


def play(folder: Path, scene: Callable[[Post, str], Awaitable[None]], *, with_model: bool = True) -> None:
    """A scene over HTTP: `post(path, body, headers)` is answered with status and JSON."""
    port = free_port()

    async def over_http(_: Inference) -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

            async def post(path: str, body: object, **headers: str) -> tuple[int, dict[str, Any]]:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                async with session.post(path, data=data, headers=named) as response:
                    return response.status, await response.json()

            await scene(post, f"http://127.0.0.1:{port}")

    serve(folder, Ports(http=port), over_http, with_model=with_model)


def request(frames: np.ndarray, **changes: object) -> dict[str, object]:
    tensor = {"name": "frames", "datatype": "UINT8", "shape": list(frames.shape), "data": frames.tolist()} | changes
    return {"id": "42", "inputs": [tensor]}


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_tritonclient_asks_and_is_answered(tmp_path: Path, transport: str) -> None:
    port = free_port()
    np.save(tmp_path / "frames.npy", tiny_models.frames())
    told: dict[str, Any] = {}

    async def scene(_: Inference) -> None:
        command = ["-m", "tests.integration.triton_asks", transport, f"127.0.0.1:{port}", str(tmp_path / "frames.npy")]
        child = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
        assert child.returncode == 0
        told.update(json.loads(output))

    serve(tmp_path, Ports(**{transport: port}), scene)
    assert [told[name] for name in ("live", "ready", "model_ready", "version_ready", "other_ready")] == [True] * 4 + [
        False
    ]
    assert told["server"]["name"] == "littoral-edge"
    assert told["model"]["versions"] == ["7"]
    assert told["all_outputs"]["id"] == "42"
    assert told["all_outputs"]["label"] == ["uint16", [0, 1, 2, 3]]
    assert told["all_outputs"]["confidence"][0] == "float32"
    assert told["labels_alone"] == {"id": "", "label": ["uint16", [0, 1, 2, 3]], "confidence": None}
    assert "here runs 'tiny' version 7" in told["refused"]["other"]
    assert "shape [n, 2, 2]" in told["refused"]["shape"]
    assert told["refused"]["large"] != "not refused"
    if transport == "http":
        assert told["as_json"]["label"][1] == told["compressed"]["label"][1] == [0, 1, 2, 3]
        assert told["as_json"]["confidence"][1] == told["all_outputs"]["confidence"][1]


def test_what_is_answered_over_http_is_durable(tmp_path: Path) -> None:
    async def scene(post: Post, _: str) -> None:
        status, told = await post("/v2/models/tiny/infer", request(tiny_models.frames()))
        assert (status, told["id"], told["model_version"]) == (200, "42", "7")
        assert told["outputs"][0] == {"name": "label", "datatype": "UINT16", "shape": [4], "data": [0, 1, 2, 3]}

    play(tmp_path, scene)
    with_results = Outbox.open(tmp_path / "outbox.db", 1 << 30)
    assert with_results.source_watermark("requests") == 4
    with_results.close()


@pytest.mark.parametrize("changes", [{"id": None}, {}])
def test_a_request_without_an_id_is_answered_without_one(tmp_path: Path, changes: dict[str, None]) -> None:
    asked = {"inputs": request(tiny_models.frames())["inputs"]} | changes

    async def scene(post: Post, _: str) -> None:
        status, told = await post("/v2/models/tiny/infer", asked)
        assert (status, told["id"]) == (200, "")

    play(tmp_path, scene)


def test_a_body_that_is_not_compressed_as_it_says_is_refused_in_json(tmp_path: Path) -> None:
    async def scene(post: Post, _: str) -> None:
        status, told = await post("/v2/models/tiny/infer", b"nonsense", Content_Encoding="gzip")
        assert status == 400
        assert "the body cannot be read" in told["error"]
        assert (await post("/v2/models/tiny/infer", request(tiny_models.frames())))[0] == 200

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("path", "body", "status", "named"),
    [
        ("/v2/models/other/infer", request(tiny_models.frames()), 404, "here runs 'tiny' version 7"),
        ("/v2/models/tiny/versions/8/infer", request(tiny_models.frames()), 404, "not 'tiny' version 8"),
        ("/v2/models/tiny/infer", b"{", 400, "no JSON"),
        ("/v2/models/tiny/infer", b"[" * 100_000, 400, "no JSON"),
        ("/v2/models/tiny/infer", [1], 400, "no JSON object"),
        ("/v2/models/tiny/infer", {}, 400, "send one input, UINT8 of shape [n, 2, 2]"),
        ("/v2/models/tiny/infer", {"inputs": 7}, 400, "no list of objects"),
        ("/v2/models/tiny/infer", {"inputs": [{"shape": [1.5]}]}, 400, "whole numbers"),
        ("/v2/models/tiny/infer", request(tiny_models.frames(), data=[1, [2]]), 400, "no tensor"),
        ("/v2/models/tiny/infer", request(tiny_models.frames(), data=["a"] * 16), 400, "no UINT8"),
        ("/v2/models/tiny/infer", request(tiny_models.frames(), data=[-1] * 16), 400, "beyond UINT8"),
        ("/v2/models/tiny/infer", request(tiny_models.frames(), data=[1] * 15), 400, "15 values do not fill"),
        ("/v2/models/tiny/infer", request(tiny_models.frames(), shape=[]), 400, "not []"),
        (
            "/v2/models/tiny/infer",
            request(tiny_models.frames(), parameters={"binary_data_size": 9}),
            400,
            "0 bytes follow",
        ),
        (
            "/v2/models/tiny/infer",
            request(tiny_models.frames()) | {"outputs": [{"name": "heat"}]},
            400,
            "ask for label and confidence",
        ),
        ("/v2/models/tiny/infer", b" " * (MAX_BODY_BYTES + 1), 413, "send fewer frames"),
        ("/v2/nowhere", {}, 404, "POST /v2/nowhere"),
        ("/v2/health/live", {}, 405, "Method Not Allowed"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    tmp_path: Path, path: str, body: object, status: int, named: str
) -> None:
    async def scene(post: Post, _: str) -> None:
        found, told = await post(path, body)
        assert (found, named in told["error"]) == (status, True), told
        assert (await post("/v2/models/tiny/infer", request(tiny_models.frames())))[0] == 200

    play(tmp_path, scene)


@pytest.mark.parametrize("length", ["-1", "x", "100000"])
def test_a_header_that_contradicts_the_body_is_named(tmp_path: Path, length: str) -> None:
    async def scene(post: Post, _: str) -> None:
        status, told = await post("/v2/models/tiny/infer", request(tiny_models.frames()), **{JSON_BYTES: length})
        assert status == 400
        assert JSON_BYTES in told["error"]

    play(tmp_path, scene)


def test_without_a_model_the_device_lives_but_is_not_ready(tmp_path: Path) -> None:
    async def scene(post: Post, address: str) -> None:
        assert await post("/v2/models/tiny/infer", request(tiny_models.frames())) == (
            503,
            {"error": "no model is deployed here yet"},
        )
        async with aiohttp.ClientSession() as session:
            found = {}
            for path in ("live", "ready"):
                async with session.get(f"{address}/v2/health/{path}") as response:
                    found[path] = response.status
        assert found == {"live": 200, "ready": 400}

    play(tmp_path, scene, with_model=False)


@pytest.mark.parametrize("ports", ["http", "grpc"])
def test_a_port_that_is_taken_is_named_with_its_setting(tmp_path: Path, ports: str) -> None:
    async def scene(_: Inference) -> None:
        raise AssertionError("the port was taken")

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SocketUnusable, match=f"127.0.0.1:{port}.*infer_{ports}_port"):
            serve(tmp_path, Ports(**{ports: port}), scene)
