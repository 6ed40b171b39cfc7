"""The Open Inference Protocol by gRPC: converts between its messages and the data plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from edge.foundation.version import agent_version
from edge.inference import data_plane
from edge.inference.data_plane import DataPlane, Given, NoModel, Tensor, UnknownModel
from edge.inference.requests import Answer, Unanswered
from protos.v1 import open_inference_pb2 as oip
from protos.v1.open_inference_pb2_grpc import GRPCInferenceServiceServicer

CODES = {
    NoModel: grpc.StatusCode.UNAVAILABLE,
    Unanswered: grpc.StatusCode.UNAVAILABLE,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    ValueError: grpc.StatusCode.INVALID_ARGUMENT,
}

_Context = grpc.aio.ServicerContext[oip.ModelInferRequest, oip.ModelInferResponse]


class OpenInference(GRPCInferenceServiceServicer):
    """What an application on the device may ask, of the model of any slot by its name. requests: of each slot."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def ServerLive(  # noqa: N802 - the protocol's name, as those below
        self, _: oip.ServerLiveRequest, __: _Context
    ) -> oip.ServerLiveResponse:
        """Whether the agent runs."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, _: oip.ServerReadyRequest, __: _Context) -> oip.ServerReadyResponse:  # noqa: N802
        """Whether it has a model."""
        return oip.ServerReadyResponse(ready=self._plane.ready)

    async def ModelReady(self, asked: oip.ModelReadyRequest, _: _Context) -> oip.ModelReadyResponse:  # noqa: N802
        """Whether this is the model that it has."""
        return oip.ModelReadyResponse(ready=self._plane.has(asked.name, asked.version))

    async def ServerMetadata(  # noqa: N802
        self, _: oip.ServerMetadataRequest, __: _Context
    ) -> oip.ServerMetadataResponse:
        """Its name and version."""
        return oip.ServerMetadataResponse(name=data_plane.SERVER, version=agent_version())

    async def ModelMetadata(  # noqa: N802
        self, asked: oip.ModelMetadataRequest, context: _Context
    ) -> oip.ModelMetadataResponse:
        """Inputs and outputs of the model."""
        try:
            serving = self._plane.serving(asked.name, asked.version)
        except (NoModel, UnknownModel) as error:
            await _abort(context, error)
        return oip.ModelMetadataResponse(
            name=serving.model,
            versions=[str(serving.version)],
            platform=data_plane.PLATFORM,
            inputs=_described([data_plane.taken(serving)]),
            outputs=_described(data_plane.OUTPUTS),
        )

    async def ModelInfer(self, asked: oip.ModelInferRequest, context: _Context) -> oip.ModelInferResponse:  # noqa: N802
        """The answers to frames, once they are durable."""
        outputs = [output.name for output in asked.outputs]
        try:
            answer = await self._plane.infer(asked.model_name, asked.model_version, _given(asked), outputs)
        except (NoModel, UnknownModel, Unanswered, ValueError) as error:
            await _abort(context, error)
        return response(asked.id, answer, outputs)


def response(request_id: str, answer: Answer, outputs: Sequence[str]) -> oip.ModelInferResponse:
    """The answers in the protocol's words."""
    columns = data_plane.answered(answer, outputs)
    return oip.ModelInferResponse(
        model_name=answer.model,
        model_version=str(answer.version),
        id=request_id,
        outputs=[
            oip.ModelInferResponse.InferOutputTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            for tensor in columns
        ],
        raw_output_contents=[column.tobytes() for column in columns.values()],
    )


def _given(asked: oip.ModelInferRequest) -> list[Given]:
    raw = asked.raw_input_contents
    return [
        Given(
            Tensor(given.name, given.datatype, tuple(given.shape)),
            raw[place] if place < len(raw) else _contents(given.datatype, given.contents),
        )
        for place, given in enumerate(asked.inputs)
    ]


def _contents(datatype: str, contents: oip.InferTensorContents) -> NDArray[np.generic]:
    if datatype == "FP32":
        return np.array(contents.fp32_contents, np.float32)
    if datatype == "INT16":
        return np.array(contents.int_contents, np.int32)
    return np.array(contents.uint_contents, np.uint32)


def _described(tensors: Iterable[Tensor]) -> list[oip.ModelMetadataResponse.TensorMetadata]:
    metadata = oip.ModelMetadataResponse.TensorMetadata
    return [metadata(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape) for tensor in tensors]


async def _abort(context: _Context, error: Exception) -> NoReturn:
    code = next(code for kind, code in CODES.items() if isinstance(error, kind))
    await context.abort(code, str(error))
    raise AssertionError("abort raises")
