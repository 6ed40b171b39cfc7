"""One TFLite model, ready to answer batches of frames: LiteRT behind the only interface the rest of Littoral knows.

The cloud evaluates with this module what the edge will run with it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.inference import rules, shapes
from edge.inference.entities import Answers, BadModel, Cost
from edge.inference.preprocessing import Frames, preparation, prepared_shape
from protos.v1.manifest_pb2 import DELEGATE_DEFAULT, DELEGATE_NONE, Preprocessing, TensorSpec, Variant

try:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
except ImportError:  # 32-bit Arm has only the older package of the same interpreter
    from tflite_runtime.interpreter import Interpreter, OpResolverType

MAX_BATCH = 64
"""Frames in one invocation: larger batches gain nothing on small models and cost memory."""

MEASURED_BATCHES = (1, 4, 16, MAX_BATCH)
MEASURE_NS = 20_000_000
"""For each of them; those that take longer at once are left out."""

__all__ = ["MAX_BATCH", "BadModel", "Engine", "Interpreter", "tensor_specs"]


class Engine:
    """A loaded model. Not for two threads at once.

    batch: frames in one invocation at most. busy_ns: processor time that the interpreter has taken so far.

    Raises BadModel when the file cannot be loaded or its tensors are not those of `variant`.
    """

    def __init__(self, model: bytes | Path, variant: Variant, preprocessing: Preprocessing, threads: int = 1) -> None:
        self.variant = variant
        self.busy_ns = 0
        self.batch = MAX_BATCH
        self.frame_shape = tuple(preprocessing.frame_shape)
        self._input_shape = tuple(variant.input.shape)
        self._output_shape = tuple(variant.output.shape)
        self._output_dtype = variant.output.dtype
        try:
            self.frame_dtype = shapes.frame_dtype(preprocessing)
            _check_filled(self._input_shape, prepared_shape(preprocessing))
            self._prepare = preparation(preprocessing, variant.input)
            self._interpreter = _load(model, threads, variant.delegate)
            self._check("input", self._interpreter.get_input_details(), variant.input)
            self._check("output", self._interpreter.get_output_details(), variant.output)
            self._input = self._interpreter.get_input_details()[0]["index"]
            self._output = self._interpreter.get_output_details()[0]["index"]
            self._batch = 0
            self._resize(1)
        except (ValueError, RuntimeError, OSError) as error:
            raise BadModel(f"variant {variant.name!r} cannot be run: {error}") from error

    def classify(self, frames: Frames) -> Answers:
        """Answers to frames (n, *frame_shape) of the manifest's dtype, n from 0 up."""
        outputs = self.raw(frames)
        return Answers(outputs.argmax(axis=1).astype(np.uint16), _real(outputs.max(axis=1), self.variant.output))

    def raw(self, frames: Frames) -> NDArray[np.generic]:
        """The output tensor (n, classes) in the output's dtype, for frames (n, *frame_shape).

        Raises ValueError for frames of another shape or dtype, BadModel when the interpreter fails on them.
        """
        if frames.dtype != self.frame_dtype or frames.shape[1:] != self.frame_shape:
            wanted = f"{self.frame_dtype.name} frames of shape {self.frame_shape}"
            raise ValueError(f"the model takes {wanted}, not {frames.dtype} {frames.shape[1:]}")
        outputs = np.empty((len(frames), *self._output_shape), self._output_dtype)
        for start in range(0, len(frames), self.batch):
            outputs[start : start + self.batch] = self._invoke(frames[start : start + self.batch])
        return outputs

    def measure(self) -> Cost:
        """What this model takes here, found by trying batches of several sizes; the best is used from then on."""
        frames = np.zeros((MAX_BATCH, *self.frame_shape), self.frame_dtype)
        taken_ns: dict[int, int] = {}
        for batch in MEASURED_BATCHES:
            if batch == 1 or taken_ns[1] * batch < MEASURE_NS:
                taken_ns[batch] = self._shortest_ns(frames[:batch])
        cost = rules.cost_of(taken_ns)
        self.batch = cost.best
        return cost

    def _shortest_ns(self, frames: Frames) -> int:
        """Of several invocations the shortest, after a first that may have to prepare."""
        self.raw(frames)
        taken: list[int] = []
        started = time.monotonic_ns()
        while not taken or time.monotonic_ns() - started < MEASURE_NS:
            before = time.monotonic_ns()
            self.raw(frames)
            taken.append(time.monotonic_ns() - before)
        return min(taken)

    def _invoke(self, frames: Frames) -> NDArray[np.generic]:
        values = self._prepare(frames).reshape(len(frames), *self._input_shape)
        try:
            self._resize(len(frames))
            self._interpreter.set_tensor(self._input, values)
            started = time.process_time_ns()
            self._interpreter.invoke()
            self.busy_ns += time.process_time_ns() - started
            outputs: NDArray[np.generic] = self._interpreter.get_tensor(self._output)
        except RuntimeError as error:
            raise BadModel(f"variant {self.variant.name!r} failed while it ran: {error}") from error
        return outputs

    def _resize(self, batch: int) -> None:
        # Cheap (10 µs on a small model), so odd batches are resized rather than padded.
        if batch != self._batch:
            self._interpreter.resize_tensor_input(self._input, (batch, *self._input_shape))
            self._interpreter.allocate_tensors()
            self._batch = batch

    @staticmethod
    def _check(side: str, details: Sequence[Mapping[str, Any]], spec: TensorSpec) -> None:
        if len(details) != 1:
            raise ValueError(f"it has {len(details)} {side} tensors, not one")
        found, wanted = _describe(details[0]), (tuple(spec.shape), spec.dtype, np.float32(spec.scale), spec.zero_point)
        if found != wanted:
            raise ValueError(
                f"its {side} (shape, dtype, scale, zero point) is {_text(found)}, the manifest says {_text(wanted)}"
            )


_Description = tuple[tuple[int, ...], str, np.float32, int]


def tensor_specs(model: bytes) -> tuple[TensorSpec, TensorSpec]:
    """Input and output of a model file, for its manifest. Raises BadModel."""
    try:
        interpreter = _load(model, threads=1)
        details = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    except (ValueError, RuntimeError, IndexError) as error:
        raise BadModel(f"not a model that can be run: {error}") from error
    (shape_in, dtype_in, scale_in, zero_in), (shape_out, dtype_out, scale_out, zero_out) = map(_describe, details)
    return (
        TensorSpec(shape=shape_in, dtype=dtype_in, scale=float(scale_in), zero_point=zero_in),
        TensorSpec(shape=shape_out, dtype=dtype_out, scale=float(scale_out), zero_point=zero_out),
    )


def _check_filled(input_shape: tuple[int, ...], prepared: tuple[int, ...]) -> None:
    if math.prod(input_shape) != math.prod(prepared):
        raise ValueError(f"a frame of {prepared} does not fill an input of {input_shape}")


def _load(model: bytes | Path, threads: int, delegate: int = DELEGATE_DEFAULT) -> Interpreter:
    options: dict[str, Any] = {"model_path": str(model)} if isinstance(model, Path) else {"model_content": model}
    if delegate == DELEGATE_NONE:
        options["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(num_threads=threads, **options)


def _describe(detail: Mapping[str, Any]) -> _Description:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(size) for size in detail["shape"][1:])
    return shape, np.dtype(detail["dtype"]).name, np.float32(scale), int(zero_point)


def _text(description: _Description) -> str:
    shape, dtype, scale, zero_point = description
    return f"({shape}, {dtype}, {float(scale):.6g}, {zero_point})"


def _real(values: NDArray[np.generic], spec: TensorSpec) -> NDArray[np.float32]:
    if not spec.scale:
        return values.astype(np.float32)
    return (values.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)
