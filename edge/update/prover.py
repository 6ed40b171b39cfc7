"""The parent's side of `trial`: start the child, bound its time, believe nothing but a well-formed answer."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import edge
from edge.update.entities import Proof
from edge.update.variants import Speed
from protos.kit.children import bound_to, ending

MAX_ANSWER_BYTES = 16 * 1024
DIGEST_BYTES = 32
REQUIRED = ("problem", "golden_outputs")


class NotProved(Exception):
    """The model did not answer its golden vectors as it must; the message says how. It must not be used here."""


async def prove(
    *, digest: bytes, manifest: bytes, artifact: bytes, variant: str, model: Path, timeout_s: float
) -> Proof:
    """The proof that file `model` answers the golden vectors in `manifest` (its bytes, named by `digest`) as it must.

    Raises NotProved for a wrong answer, a crash, a hang; OSError when no child can be started now.
    """
    answer = _parse(await _run_child(manifest, _command(model, variant, timeout_s), timeout_s))
    return _proof(answer, digest, artifact, variant)


async def measure(
    *, digest: bytes, manifest: bytes, artifact: bytes, variant: str, model: Path, timeout_s: float, threads: int
) -> tuple[Proof, Speed]:
    """As `prove`, and what a frame takes with so many threads of the interpreter."""
    command = [*_command(model, variant, timeout_s), str(threads)]
    answer = _parse(await _run_child(manifest, command, timeout_s))
    return _proof(answer, digest, artifact, variant), _speed(answer)


async def _run_child(manifest: bytes, command: list[str], timeout_s: float) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *bound_to(os.getpid(), command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,  # what it starts itself ends with it
    )
    try:
        answer = await asyncio.wait_for(_converse(process, manifest), timeout_s)
    except TimeoutError:
        raise NotProved(f"the golden vectors took longer than {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            await _end(process)
    if process.returncode:
        raise NotProved(f"the process that ran the golden vectors {ending(process.returncode)}")
    return answer


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it with all that it started. asyncio counts it as ended only when its output has been read to the end."""
    assert process.stdout
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    while await process.stdout.read(MAX_ANSWER_BYTES):
        pass
    await process.wait()


async def _converse(process: asyncio.subprocess.Process, manifest: bytes) -> bytes:
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(manifest)
        await process.stdin.drain()
        process.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ended early: its exit code tells more
    answer = b""
    while part := await process.stdout.read(MAX_ANSWER_BYTES):
        answer += part
        if len(answer) > MAX_ANSWER_BYTES:
            raise NotProved("the process that ran the golden vectors talks without end")
    await process.wait()
    return answer


def _command(model: Path, variant: str, timeout_s: float) -> list[str]:
    return [sys.executable, "-P", "-m", "edge.update.trial", str(model), variant, str(math.ceil(timeout_s))]


def _environment() -> dict[str, str]:
    """This process's, so that the child finds the same code, with one thread: the memory limit counts their stacks."""
    root = str(Path(edge.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}


def _parse(answer: bytes) -> dict[str, str]:
    try:
        fields = json.loads(answer)
        return {str(name): str(text) for name, text in fields.items()} | {name: str(fields[name]) for name in REQUIRED}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotProved("the process that ran the golden vectors gave no answer that can be read") from error


def _proof(answer: Mapping[str, str], digest: bytes, artifact: bytes, variant: str) -> Proof:
    if answer["problem"]:
        raise NotProved(answer["problem"])
    golden_outputs = _digest(answer["golden_outputs"])
    return Proof(manifest=digest, artifact=artifact, variant=variant, golden_outputs=golden_outputs)


def _speed(answer: Mapping[str, str]) -> Speed:
    try:
        single_us, frame_us = float(answer["single_us"]), float(answer["frame_us"])
    except (KeyError, ValueError):
        single_us = frame_us = 0.0
    if not (0 < frame_us < math.inf and 0 < single_us < math.inf):
        raise NotProved("the process that ran the golden vectors did not say what a frame takes")
    return Speed(single_us, frame_us)


def _digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_BYTES:
        raise NotProved("the process that ran the golden vectors gave no digest of its outputs")
    return digest
