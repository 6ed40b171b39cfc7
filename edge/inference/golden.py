"""Golden vectors: what the model must answer on any device, and the digest that proves what it answered on this one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from protos.v1.manifest_pb2 import Expected, GoldenVector


def golden_frames(
    vectors: Sequence[GoldenVector], frame_shape: Sequence[int], dtype: DTypeLike = np.uint8
) -> NDArray[np.generic]:
    """The frames of the vectors, (n, *frame_shape). Raises ValueError for one of another size."""
    return np.stack([np.frombuffer(vector.frame, dtype).reshape(tuple(frame_shape)) for vector in vectors])


def check_golden(vectors: Sequence[GoldenVector], variant_name: str, outputs: NDArray[np.generic]) -> list[str]:
    """What is wrong with `outputs` (n, classes) of one variant, one line for each vector; empty: nothing.

    Each element may differ by the vector's tolerance, in the output's own units (quantisation steps for integers), and
    the highest element must be the same. A manifest without vectors for the variant proves nothing: that is wrong too.
    """
    if not vectors:
        return ["the manifest has no golden vectors"]
    if len(outputs) != len(vectors):
        return [f"{len(vectors)} golden vectors, but {len(outputs)} outputs"]
    problems = (_problem(vector, variant_name, output) for vector, output in zip(vectors, outputs, strict=True))
    return [f"golden vector {index}: {problem}" for index, problem in enumerate(problems) if problem]


def outputs_digest(outputs: NDArray[np.generic]) -> bytes:
    """SHA-256 over the output tensors (n, classes), little-endian, in the manifest's order."""
    return hashlib.sha256(_little_endian(outputs).tobytes()).digest()


def expected(variant_name: str, output: NDArray[np.generic], tolerance: float) -> Expected:
    """The contract's form of one output tensor (classes,)."""
    return Expected(variant=variant_name, output=_little_endian(output).tobytes(), tolerance=tolerance)


def _problem(vector: GoldenVector, variant_name: str, output: NDArray[np.generic]) -> str:
    wanted = next((e for e in vector.expected if e.variant == variant_name), None)
    if wanted is None:
        return f"no expected output for variant {variant_name!r}"
    if len(wanted.output) != output.nbytes:
        return f"{output.nbytes} bytes of output, {len(wanted.output)} expected"
    wanted_output = np.frombuffer(wanted.output, output.dtype.newbyteorder("<")).astype(np.float64)
    return _difference(wanted_output, output.ravel().astype(np.float64), wanted.tolerance)


def _difference(wanted: NDArray[np.float64], found: NDArray[np.float64], tolerance: float) -> str:
    if not np.isfinite(found).all():
        return "the output has values that are not numbers"
    if wanted.argmax() != found.argmax():
        return f"class {found.argmax()} instead of {wanted.argmax()}"
    largest = float(np.abs(wanted - found).max())
    return f"differs by {largest:.6g}, {tolerance:.6g} is allowed" if not largest <= tolerance else ""


def _little_endian(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values.astype(values.dtype.newbyteorder("<"), copy=False)
