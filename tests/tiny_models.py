"""TFLite files made in a millisecond, without TensorFlow: one fully connected layer over 2x2 frames, four classes.

Class i is the brightest pixel i. `answer` shifts the classes, so that a damaged model answers, but wrongly.
"""

from __future__ import annotations

import hashlib

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.inference.engine import Engine, tensor_specs
from edge.inference.golden import expected
from protos.v1.manifest_pb2 import COMPRESSION_NONE, Artifact, ChunkRef, Manifest, Preprocessing, Variant

FRAME_SHAPE = (2, 2)
CLASSES = 4
SCALE = 1 / 255


def frames() -> np.ndarray:
    """Four frames, uint8 (4, 2, 2): in frame i pixel i is bright."""
    values = np.full((CLASSES, CLASSES), 10, np.uint8)
    np.fill_diagonal(values, 240)
    return values.reshape(CLASSES, *FRAME_SHAPE)


def weights(shift: int = 0) -> np.ndarray:
    """float32 (4, 4): class (i + shift) % 4 is pixel i."""
    return np.roll(np.eye(CLASSES, dtype=np.float32), shift, axis=0)


def float32(matrix: np.ndarray) -> bytes:
    """A float32 model with these weights (classes, pixels)."""
    return _file(matrix.astype(np.float32), schema.TensorType.FLOAT32, None, None)


def int8(matrix: np.ndarray) -> bytes:
    """A full-int8 model with these weights, each within -1 to 1."""
    quantised = np.rint(matrix * 127).astype(np.int8)
    return _file(quantised, schema.TensorType.INT8, (SCALE, -128), (1 / 127, 0))


def preprocessing() -> Preprocessing:
    """Pixels to 0..1."""
    return Preprocessing(frame_shape=FRAME_SHAPE, scale=SCALE)


def artifact(data: bytes) -> Artifact:
    """The file as one chunk, not compressed."""
    digest = hashlib.sha256(data).digest()
    return Artifact(
        digest=digest, size=len(data), compression=COMPRESSION_NONE, chunks=[ChunkRef(digest=digest, size=len(data))]
    )


def manifest(
    files: dict[str, bytes], model: str = "tiny", version: int = 1, judged_by: dict[str, bytes] | None = None
) -> Manifest:
    """The manifest of these variants; the golden outputs are those of `judged_by`, by default the same files."""
    made = Manifest(model=model, version=version, preprocessing=preprocessing(), labels=list("abcd"))
    for frame in frames():
        made.golden.add(frame=frame.tobytes())
    for name, data in files.items():
        judge = (judged_by or files)[name]
        input_spec, output_spec = tensor_specs(judge)
        variant = Variant(name=name, artifact=artifact(data), input=input_spec, output=output_spec)
        made.variants.append(variant)
        outputs = Engine(judge, variant, made.preprocessing).raw(frames())
        for vector, output in zip(made.golden, outputs, strict=True):
            vector.expected.append(expected(name, output, 1.0 if name == "int8" else 1e-4))
    return made


def _file(
    matrix: np.ndarray, kind: int, activation: tuple[float, int] | None, weight: tuple[float, int] | None
) -> bytes:
    model = schema.ModelT()
    model.version = 3
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 4
    model.operatorCodes = [code]
    data = schema.BufferT()
    data.data = np.frombuffer(np.ascontiguousarray(matrix).tobytes(), np.uint8)
    model.buffers = [schema.BufferT(), data]
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("frame", [1, *FRAME_SHAPE], kind, 0, activation),
        _tensor("weights", list(matrix.shape), kind, 1, weight),
        _tensor("classes", [1, CLASSES], kind, 0, activation),
    ]
    graph.inputs, graph.outputs = [0], [2]
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs, operator.outputs = [0, 1, -1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators = [operator]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(
    name: str, shape: list[int], kind: int, buffer: int, quantisation: tuple[float, int] | None
) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
    tensor.shapeSignature = [-1, *shape[1:]] if buffer == 0 else shape
    if quantisation:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [quantisation[0]], [quantisation[1]]
    return tensor
