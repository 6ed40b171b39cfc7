"""The Open Inference Protocol (KServe V2) apart from its transports: which model is here, what it takes, its answers.

A model has one input, `frames`, [n, *shape of a frame] of the type of its frames, and two outputs, `label`, UINT16 [n],
and `confidence`, FP32 [n]: what is answered is what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.inference.entities import Blueprint
from edge.inference.requests import Answer, Requests, of_model

SERVER = "littoral-edge"
PLATFORM = "tflite"
INPUT, LABEL, CONFIDENCE = "frames", "label", "confidence"

DATATYPES = {"uint8": "UINT8", "int16": "INT16", "float32": "FP32"}
"""The protocol's names of what a frame's values may be."""


class WrongRequest(ValueError):
    """The request is none for this model; the message says what to send."""


class UnknownModel(Exception):
    """Another model, or another version of it, runs here."""


class NoModel(Exception):
    """None is deployed here yet."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Of a model's metadata, or of a request. shape: -1 for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """A request's input. data: its values as little-endian bytes, or as numbers, nested or not."""

    tensor: Tensor
    data: bytes | Sequence[object] | NDArray[np.generic]


OUTPUTS = (Tensor(LABEL, "UINT16", (-1,)), Tensor(CONFIDENCE, "FP32", (-1,)))


class DataPlane:
    """What an application on the device may ask, of the model of any slot by its name. requests: of each slot."""

    def __init__(self, requests: Sequence[Requests]) -> None:
        self._requests = requests

    @property
    def ready(self) -> bool:
        """Whether the agent has a model."""
        return any(one.inference.blueprint for one in self._requests)

    def has(self, model: str, version: str) -> bool:
        """Whether this is the model that it has; an empty version is any."""
        serving = of_model(self._requests, model).inference.blueprint
        return serving is not None and _is(serving, model, version)

    def serving(self, model: str, version: str) -> Blueprint:
        """The model that it has. Raises NoModel or UnknownModel if it is not this one."""
        serving = of_model(self._requests, model).inference.blueprint
        if serving is None:
            raise NoModel("no model is deployed here yet")
        if not _is(serving, model, version):
            raise UnknownModel(
                f"here runs {serving.model!r} version {serving.version}, not {model!r} version {version or 'any'}"
            )
        return serving

    async def infer(self, model: str, version: str, given: Sequence[Given], outputs: Collection[str]) -> Answer:
        """The answers to frames, once they are durable. outputs: the names that are asked for.

        Raises NoModel, UnknownModel, WrongRequest, or what `Requests.ask` raises.
        """
        serving = self.serving(model, version)
        if unknown := set(outputs) - {LABEL, CONFIDENCE}:
            raise WrongRequest(f"there is no output {sorted(unknown)}: ask for {LABEL} and {CONFIDENCE}")
        return await of_model(self._requests, model).ask(pixels(given, serving))


def taken(serving: Blueprint) -> Tensor:
    """The input of a model."""
    return Tensor(INPUT, DATATYPES[serving.frame_dtype.name], (-1, *serving.frame_shape))


def answered(answer: Answer, outputs: Collection[str]) -> Mapping[Tensor, NDArray[np.generic]]:
    """The outputs that are asked for, all if none is, little-endian and in the protocol's order."""
    count = (len(answer.label),)
    columns: dict[Tensor, NDArray[np.generic]] = {
        Tensor(LABEL, "UINT16", count): answer.label.astype("<u2"),
        Tensor(CONFIDENCE, "FP32", count): answer.confidence.astype("<f4"),
    }
    return {tensor: column for tensor, column in columns.items() if not outputs or tensor.name in outputs}


def pixels(given: Sequence[Given], serving: Blueprint) -> NDArray[np.uint8]:
    """The frames of a request, uint8 (n, bytes of a frame). Raises WrongRequest."""
    wanted = taken(serving)
    text = f"send one input, {wanted.datatype} of shape [n, {', '.join(map(str, serving.frame_shape))}]"
    if len(given) != 1 or given[0].tensor.datatype != wanted.datatype:
        raise WrongRequest(text)
    shape = given[0].tensor.shape
    if shape[1:] != serving.frame_shape or shape[0] < 1:
        raise WrongRequest(f"{text}, not {list(shape)}")
    values = _values(given[0].data, serving.frame_dtype)
    if values.size != math.prod(shape):
        raise WrongRequest(f"{values.size} values do not fill the shape {list(shape)}")
    return values.view(np.uint8).reshape(shape[0], -1)


def _values(data: bytes | Sequence[object] | NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """As a contiguous array of one dimension."""
    if isinstance(data, bytes):
        if len(data) % dtype.itemsize:
            raise WrongRequest(f"{len(data)} bytes are not whole values of {dtype.itemsize}")
        return np.frombuffer(data, dtype)
    try:
        numbers = np.asarray(data).ravel()
    except ValueError as error:
        raise WrongRequest(f"the values are no tensor: {error}") from error
    if numbers.size and numbers.dtype.kind not in ("biu" if dtype.kind != "f" else "biuf"):
        raise WrongRequest(f"the values are no {DATATYPES[dtype.name]}")
    converted = numbers.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(converted, numbers):
        raise WrongRequest(f"values beyond {DATATYPES[dtype.name]}: of {numbers.min()} to {numbers.max()}")
    return converted


def _is(serving: Blueprint, model: str, version: str) -> bool:
    return model == serving.model and version in {"", str(serving.version)}
