"""Applications on the device ask by the Open Inference Protocol, over the real Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from edge.inference.entities import Blueprint, Limits
from edge.inference.rpc import frames_server
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.v1 import open_inference_pb2 as oip
from protos.v1.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests import in_thread, tiny_models

GOOD = tiny_models.int8(tiny_models.weights())
Scene = Callable[[Any, Inference], Awaitable[None]]


def blueprint(folder: Path) -> Blueprint:
    manifest = tiny_models.manifest({"int8": GOOD})
    file = folder / "model.tflite"
    file.write_bytes(GOOD)
    return Blueprint(file, manifest.variants[0], manifest.preprocessing, 1, bytes(32), "tiny", 7)


def play(folder: Path, scene: Scene, *, with_model: bool = True) -> None:
    async def main() -> None:
        outbox = Outbox.open(folder / "outbox.db", 1 << 30)
        inference = Inference(outbox, Limits(batch_frames=16), in_thread.start)
        if with_model:
            await inference.use(blueprint(folder))
        running = asyncio.create_task(inference.run())
        path = folder / "frames.sock"
        async with frames_server(inference, path), grpc.aio.insecure_channel(f"unix:{path}") as channel:
            await scene(GRPCInferenceServiceStub(channel), inference)  # type: ignore[no-untyped-call]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        outbox.close()

    asyncio.run(main())


def request(frames: np.ndarray, *, raw: bool = True, **changes: Any) -> oip.ModelInferRequest:
    tensor = oip.ModelInferRequest.InferInputTensor(name="frames", datatype="UINT8", shape=frames.shape)
    if not raw:
        tensor.contents.uint_contents.extend(frames.ravel().tolist())
    fields = {"model_name": "tiny", "id": "42", "inputs": [tensor]} | changes
    return oip.ModelInferRequest(**fields, raw_input_contents=[frames.tobytes()] if raw else [])


def labels(answer: oip.ModelInferResponse) -> list[int]:
    assert [tensor.name for tensor in answer.outputs] == ["label", "confidence"]
    found: list[int] = np.frombuffer(answer.raw_output_contents[0], "<u2").tolist()
    assert len(answer.raw_output_contents[1]) == 4 * len(found)
    return found


@pytest.mark.parametrize("raw", [True, False])
def test_frames_are_answered_and_their_results_are_durable(tmp_path: Path, *, raw: bool) -> None:
    async def scene(stub: Any, inference: Inference) -> None:
        answer = await stub.ModelInfer(request(tiny_models.frames(), raw=raw))
        assert labels(answer) == [0, 1, 2, 3]
        assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "7", "42")
        assert inference.inferences == 4

    play(tmp_path, scene)


def test_many_ask_at_once_and_each_gets_its_own_answers(tmp_path: Path) -> None:
    async def scene(stub: Any, _: Inference) -> None:
        async def ask(count: int) -> None:
            wanted = np.arange(count) % 4
            assert labels(await stub.ModelInfer(request(tiny_models.frames()[wanted]))) == wanted.tolist()

        await asyncio.gather(*(ask(count) for count in range(1, 60)))

    play(tmp_path, scene)


def test_the_model_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    async def scene(stub: Any, _: Inference) -> None:
        assert (await stub.ServerLive(oip.ServerLiveRequest())).live
        assert (await stub.ServerReady(oip.ServerReadyRequest())).ready
        assert (await stub.ServerMetadata(oip.ServerMetadataRequest())).name == "littoral-edge"
        for name, version, ready in (
            ("tiny", "", True),
            ("tiny", "7", True),
            ("tiny", "8", False),
            ("other", "", False),
        ):
            assert (await stub.ModelReady(oip.ModelReadyRequest(name=name, version=version))).ready is ready
        told = await stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny"))
        assert [(tensor.datatype, list(tensor.shape)) for tensor in told.inputs] == [("UINT8", [-1, 2, 2])]

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("asked", "code", "named"),
    [
        (request(tiny_models.frames(), model_name="other"), grpc.StatusCode.NOT_FOUND, "here runs 'tiny' version 7"),
        (request(tiny_models.frames(), inputs=[]), grpc.StatusCode.INVALID_ARGUMENT, "shape \\[n, 2, 2\\]"),
        (request(np.zeros((1, 3, 3), np.uint8)), grpc.StatusCode.INVALID_ARGUMENT, "not \\[1, 3, 3\\]"),
        (request(np.zeros((0, 2, 2), np.uint8)), grpc.StatusCode.INVALID_ARGUMENT, "not \\[0, 2, 2\\]"),
        (request(np.full((1, 2, 2), 256), raw=False), grpc.StatusCode.INVALID_ARGUMENT, "beyond UINT8"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_with_what_would(
    tmp_path: Path, asked: oip.ModelInferRequest, code: grpc.StatusCode, named: str
) -> None:
    async def scene(stub: Any, _: Inference) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match=named) as refused:
            await stub.ModelInfer(asked)
        assert refused.value.code() is code
        assert labels(await stub.ModelInfer(request(tiny_models.frames()))) == [0, 1, 2, 3]

    play(tmp_path, scene)


def test_without_a_model_there_is_no_answer_now(tmp_path: Path) -> None:
    async def scene(stub: Any, inference: Inference) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="no model") as refused:
            await stub.ModelInfer(request(tiny_models.frames()))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        await inference.use(blueprint(tmp_path))
        assert labels(await stub.ModelInfer(request(tiny_models.frames()))) == [0, 1, 2, 3]

    play(tmp_path, scene, with_model=False)


def test_frames_that_the_model_fails_on_are_told_so(tmp_path: Path) -> None:
    class Failing:
        frame_shape = tiny_models.FRAME_SHAPE
        busy_ns = 0

        def classify(self, _: np.ndarray) -> None:
            raise RuntimeError("the interpreter stumbled")

    async def scene(stub: Any, inference: Inference) -> None:
        await inference.use(in_thread.rehearsal(Failing()))
        with pytest.raises(grpc.aio.AioRpcError, match="no result for these frames"):
            await stub.ModelInfer(request(tiny_models.frames(), model_name="m"))

    play(tmp_path, scene)
