"""The process that a model runs in: `python -m edge.inference.worker SOCKET MEMORY ORDER`, started by the agent.

Whatever a model does, a crash, a hang, an appetite for memory, happens to this process alone. It imports numpy, the
interpreter and the contract, nothing else, since a device has little memory.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from edge.foundation import memory
from edge.inference.engine import BadModel, Engine
from edge.inference.entities import Answers, Blueprint, Cost
from edge.inference.messages import REQUEST, Kind, Message, parse_order
from edge.inference.slots import Layout, Slot, attach
from protos.kit import columns

MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space for Python, numpy and the interpreter, which take 0.2 GB, and for the tensors between the layers."""

MEMORY_PER_MODEL_BYTE = 4
MEMORY_PER_THREAD_BYTES = 16 * 1024 * 1024
MEMORY_PER_FRAME_BYTE = 16
"""Address space beyond that for each byte of the model's file, each thread, and each byte of the frames in a slot."""


NICE = 19
OOM_SCORE = "900"
"""Of a model in the background: the kernel's lowest priority, and nearly its highest for being ended first."""


class BadAnswers(Exception):
    """The engine answered, but not with one sound answer for each frame."""


def main(arguments: Sequence[str]) -> None:
    """Load the model, say so, and answer until the agent has no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the agent's to handle
    memory.give_back()
    connection, shared = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    blueprint, layout = parse_order(arguments[2])
    if blueprint.background:
        step_back()
    limit(blueprint, layout)
    os.nice(blueprint.nice)  # before the interpreter starts its threads: they inherit it
    slots = attach(shared, layout)
    try:
        engine = Engine(blueprint.file, blueprint.variant, blueprint.preprocessing, blueprint.threads)
        cost = engine.measure()
    except Exception as error:  # noqa: BLE001 - whatever it is, the agent is to know
        text = str(error) if isinstance(error, BadModel) else f"{type(error).__name__}: {error}"
        length = slots[0].put_result(text.encode())
        connection.sendall(Message(Kind.UNFIT, 0, length, (0, 0, 0)).packed())
        return
    memory.tidy()
    connection.sendall(_ready(cost))
    while len(request := connection.recv(REQUEST.size, socket.MSG_WAITALL)) == REQUEST.size:
        number, count = REQUEST.unpack(request)
        connection.sendall(answer(engine, blueprint, number, slots[number], count).packed())


def answer(engine: Engine, blueprint: Blueprint, number: int, slot: Slot, count: int) -> Message:
    """Infer the `count` frames in `slot`, and write their results or the problem into it."""
    began_ns, before_ns, kind = time.monotonic_ns(), engine.busy_ns, Kind.RESULTS
    try:
        frames = slot.pixels[:count].view(blueprint.frame_dtype)
        answers = engine.classify(frames.reshape(count, *engine.frame_shape))
        data = encoded(answers, blueprint, slot, count)
    except Exception as error:  # noqa: BLE001 - whatever an interpreter raises concerns these frames only
        kind, data = Kind.FAILED, f"{type(error).__name__}: {error}".encode()
    length = slot.put_result(data)
    return Message(kind, number, length, (began_ns, time.monotonic_ns(), engine.busy_ns - before_ns))


def encoded(answers: Answers, blueprint: Blueprint, slot: Slot, count: int) -> bytes:
    """The results as they will travel. Raises BadAnswers."""
    if len(answers.label) != count or len(answers.confidence) != count:
        raise BadAnswers(f"{len(answers.label)} answers to {count} frames")
    if not np.isfinite(answers.confidence).all():
        raise BadAnswers("confidence has values that are not numbers")
    latency_us = (time.monotonic_ns() - slot.taken_ns[:count]) // 1000
    return columns.encode(
        columns.Results(
            model=blueprint.model,
            version=blueprint.version,
            manifest=blueprint.manifest,
            source=slot.source,
            frame=slot.frame[:count],
            captured_us=slot.captured_us[:count],
            label=answers.label,
            confidence=answers.confidence,
            latency_us=np.minimum(latency_us, 2**32 - 1).astype(np.uint32),
            slot=blueprint.slot,
        )
    )


def step_back() -> None:
    """From now on this process works when nobody else would, and is ended first when memory is short."""
    os.nice(NICE)
    with suppress(OSError):  # where there is no such file there is no such choice
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


def limit(blueprint: Blueprint, layout: Layout) -> None:
    """From now on this process takes so much address space at most, and writes no file or core."""
    memory = (
        MEMORY_BYTES
        + MEMORY_PER_MODEL_BYTE * blueprint.file.stat().st_size
        + MEMORY_PER_THREAD_BYTES * blueprint.threads
        + MEMORY_PER_FRAME_BYTE * layout.bytes
    )
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))


def _ready(cost: Cost) -> bytes:
    numbers = (round(cost.fixed_us * 1000), round(cost.frame_us * 1000), cost.best)
    return Message(Kind.READY, 0, 0, numbers).packed()


if __name__ == "__main__":
    main(sys.argv[1:])
