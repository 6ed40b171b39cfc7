"""The Open Inference Protocol (KServe V2) on the agent's Unix socket: converts between its messages and `Requests`.

A model has one input, `frames`, UINT8 [n, height, width(, channels)], and two outputs, `label`, UINT16 [n], and
`confidence`, FP32 [n]: what is answered is what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from edge.inference.entities import Blueprint
from edge.inference.requests import Answer, Requests, Unanswered, of_model
from protos.v1 import open_inference_pb2 as oip
from protos.v1.open_inference_pb2_grpc import GRPCInferenceServiceServicer

SERVER = "littoral-edge"
PLATFORM = "tflite"
INPUT, LABEL, CONFIDENCE = "frames", "label", "confidence"

_Context = grpc.aio.ServicerContext[oip.ModelInferRequest, oip.ModelInferResponse]


class WrongRequest(ValueError):
    """The request is none for this model; the message says what to send."""


class OpenInference(GRPCInferenceServiceServicer):
    """What an application on the device may ask, of the model of any slot by its name. requests: of each slot."""

    def __init__(self, requests: Sequence[Requests]) -> None:
        self._requests = requests

    async def ServerLive(  # noqa: N802 - the protocol's name, as those below
        self, _: oip.ServerLiveRequest, __: _Context
    ) -> oip.ServerLiveResponse:
        """Whether the agent runs."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, _: oip.ServerReadyRequest, __: _Context) -> oip.ServerReadyResponse:  # noqa: N802
        """Whether it has a model."""
        return oip.ServerReadyResponse(ready=any(one.inference.blueprint for one in self._requests))

    async def ModelReady(self, asked: oip.ModelReadyRequest, _: _Context) -> oip.ModelReadyResponse:  # noqa: N802
        """Whether this is the model that it has."""
        serving = of_model(self._requests, asked.name).inference.blueprint
        return oip.ModelReadyResponse(ready=serving is not None and _is(serving, asked.name, asked.version))

    async def ServerMetadata(  # noqa: N802
        self, _: oip.ServerMetadataRequest, __: _Context
    ) -> oip.ServerMetadataResponse:
        """Its name."""
        return oip.ServerMetadataResponse(name=SERVER)

    async def ModelMetadata(  # noqa: N802
        self, asked: oip.ModelMetadataRequest, context: _Context
    ) -> oip.ModelMetadataResponse:
        """Inputs and outputs of the model."""
        serving = await self._serving(asked.name, asked.version, context)
        tensor = oip.ModelMetadataResponse.TensorMetadata
        return oip.ModelMetadataResponse(
            name=serving.model,
            versions=[str(serving.version)],
            platform=PLATFORM,
            inputs=[tensor(name=INPUT, datatype="UINT8", shape=[-1, *serving.frame_shape])],
            outputs=[
                tensor(name=LABEL, datatype="UINT16", shape=[-1]),
                tensor(name=CONFIDENCE, datatype="FP32", shape=[-1]),
            ],
        )

    async def ModelInfer(self, asked: oip.ModelInferRequest, context: _Context) -> oip.ModelInferResponse:  # noqa: N802
        """The answers to frames, once they are durable."""
        serving = await self._serving(asked.model_name, asked.model_version, context)
        try:
            answer = await of_model(self._requests, asked.model_name).ask(pixels(asked, serving.frame_shape))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Unanswered as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return response(asked.id, answer)

    async def _serving(self, name: str, version: str, context: _Context) -> Blueprint:
        serving = of_model(self._requests, name).inference.blueprint
        if serving is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no model is deployed here yet")
        elif not _is(serving, name, version):
            text = f"here runs {serving.model!r} version {serving.version}, not {name!r} version {version or 'any'}"
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        assert serving, "abort raises"
        return serving


def pixels(asked: oip.ModelInferRequest, frame_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The frames of a request, uint8 (n, bytes of a frame). Raises WrongRequest."""
    wanted = f"send one input, UINT8 of shape [n, {', '.join(map(str, frame_shape))}]"
    if len(asked.inputs) != 1 or asked.inputs[0].datatype != "UINT8":
        raise WrongRequest(wanted)
    given, size = asked.inputs[0], math.prod(frame_shape)
    if tuple(given.shape[1:]) != frame_shape or given.shape[0] < 1:
        raise WrongRequest(f"{wanted}, not {list(given.shape)}")
    values = _values(asked)
    if len(values) != given.shape[0] * size:
        raise WrongRequest(f"{len(values)} values do not fill the shape {list(given.shape)}")
    return values.reshape(-1, size)


def response(request_id: str, answer: Answer) -> oip.ModelInferResponse:
    """The answers in the protocol's words."""
    tensor, count = oip.ModelInferResponse.InferOutputTensor, len(answer.label)
    return oip.ModelInferResponse(
        model_name=answer.model,
        model_version=str(answer.version),
        id=request_id,
        outputs=[
            tensor(name=LABEL, datatype="UINT16", shape=[count]),
            tensor(name=CONFIDENCE, datatype="FP32", shape=[count]),
        ],
        raw_output_contents=[answer.label.astype("<u2").tobytes(), answer.confidence.astype("<f4").tobytes()],
    )


def _values(asked: oip.ModelInferRequest) -> NDArray[np.uint8]:
    if asked.raw_input_contents:
        return np.frombuffer(asked.raw_input_contents[0], np.uint8)
    values = np.array(asked.inputs[0].contents.uint_contents, np.uint32)
    if (values > np.iinfo(np.uint8).max).any():
        raise WrongRequest("values above 255 are no UINT8")
    return values.astype(np.uint8)


def _is(serving: Blueprint, name: str, version: str) -> bool:
    return name == serving.model and version in {"", str(serving.version)}
