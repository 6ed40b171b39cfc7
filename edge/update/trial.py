"""The child process that runs a model's golden vectors: `python -m edge.update.trial MODEL VARIANT SECONDS [THREADS]`.

It reads the manifest from standard input and writes one JSON object to standard output:
{"problem": text, "golden_outputs": hex}, the problem empty when every vector held; with THREADS it measures, too, and
adds "single_us" and "frame_us". Whatever else happens, a crash, a hang, an appetite for memory, happens to this process
alone, within limits that it sets on itself before it reads.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import BinaryIO

from protos.topics import MAX_MANIFEST_BYTES
from protos.v1.manifest_pb2 import Manifest

MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space for Python, numpy and the interpreter, which take 0.2 GB, and for the tensors between the layers."""

MEMORY_PER_MODEL_BYTE = 4
MEMORY_PER_THREAD_BYTES = 16 * 1024 * 1024
"""Address space beyond that for each byte of the model's file, itself and its weights unpacked, and each thread."""


def main(arguments: list[str]) -> None:
    """Limit this process, run the vectors, print the outcome."""
    model, variant, processor_s = Path(arguments[0]), arguments[1], int(arguments[2])
    threads = int(arguments[3]) if len(arguments) > 3 else 0  # noqa: PLR2004 - the fourth
    memory = MEMORY_BYTES + MEMORY_PER_MODEL_BYTE * model.stat().st_size + MEMORY_PER_THREAD_BYTES * threads
    limit(memory, processor_s * max(1, threads))
    with _private_output() as output:
        manifest = Manifest.FromString(sys.stdin.buffer.read(MAX_MANIFEST_BYTES))
        output.write(json.dumps(run(manifest, model, variant, threads)).encode())


def run(manifest: Manifest, model: Path, variant_name: str, threads: int = 0) -> dict[str, str]:
    """What came of the golden vectors of `manifest` on the file `model`, run as the named variant.

    threads: with so many it is measured, too; 0: it is not.
    """
    # Imported here so that the limits already hold while numpy and the interpreter load.
    from edge.inference.engine import BadModel, Engine  # noqa: PLC0415
    from edge.inference.golden import check_golden, golden_frames, outputs_digest  # noqa: PLC0415
    from edge.inference.shapes import frame_dtype  # noqa: PLC0415

    variant = next(variant for variant in manifest.variants if variant.name == variant_name)
    try:
        frames = golden_frames(manifest.golden, manifest.preprocessing.frame_shape, frame_dtype(manifest.preprocessing))
        engine = Engine(model, variant, manifest.preprocessing, max(1, threads))
        outputs = engine.raw(frames)
        cost = engine.measure() if threads else None
    except MemoryError:
        return {"problem": "it needs more memory than a model of its size may take", "golden_outputs": ""}
    except (BadModel, ValueError, RuntimeError) as error:
        return {"problem": str(error), "golden_outputs": ""}
    problems = check_golden(manifest.golden, variant_name, outputs)
    text = f"golden vectors: {len(problems)} of {len(manifest.golden)} wrong, first: {problems[0]}" if problems else ""
    measured = {"single_us": str(cost.fixed_us + cost.frame_us), "frame_us": str(cost.frame_us)} if cost else {}
    return {"problem": text, "golden_outputs": outputs_digest(outputs).hex(), **measured}


def limit(memory_bytes: int, processor_s: int) -> None:
    """From now on this process takes so much address space and processor time at most, and writes no file or core."""
    for resource_kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, processor_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(resource_kind, (most, most))


def _private_output() -> BinaryIO:
    """Standard output for the outcome alone: what the interpreter prints goes to standard error."""
    descriptor = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(descriptor, "wb")


if __name__ == "__main__":
    main(sys.argv[1:])
