"""A model at work in a thread of this process, for tests that need no other: slots and encoding are real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.inference import rules, worker
from edge.inference.engine import Engine
from edge.inference.entities import Blueprint, Cost, MicroBatch, Outcome
from edge.inference.messages import Kind
from edge.inference.slots import Layout, attach, share
from tests import tiny_models

SLOTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsal(Blueprint):
    """A blueprint whose file is not read: `classifier` answers, with `classify`, `frame_shape` and `busy_ns`."""

    classifier: Any = None


def rehearsal(classifier: Any, version: int = 1, manifest: bytes = b"\1" * 32) -> Rehearsal:
    preprocessing = tiny_models.preprocessing()
    variant = tiny_models.manifest({"int8": tiny_models.int8(tiny_models.weights())}).variants[0]
    return Rehearsal(Path("none"), variant, preprocessing, 1, manifest, "m", version, classifier=classifier)


class InThread:
    """It is `edge.inference.answering.Answering`."""

    def __init__(self, blueprint: Blueprint, engine: Any, most: int) -> None:
        self.blueprint = blueprint
        self.cost = Cost(0.0, 0.0, 1)
        self.most = rules.slot_frames(most, blueprint.frame_bytes)
        self.crashes = 0
        self.on_lost: Callable[[str], None] = lambda _: None
        self.pid = os.getpid()
        self._engine = engine
        layout = Layout(SLOTS, self.most, blueprint.frame_bytes)
        memory = share(layout)
        self._slots = dict(enumerate(attach(memory, layout)))
        os.close(memory)
        self._free = list(self._slots)
        self._thread = ThreadPoolExecutor(1)

    def answer(self, batch: MicroBatch) -> asyncio.Future[Outcome]:
        number = self._free.pop()
        self._slots[number].put(batch)
        loop = asyncio.get_running_loop()
        return asyncio.ensure_future(loop.run_in_executor(self._thread, self._answer, number, len(batch)))

    async def retire(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, number: int, count: int) -> Outcome:
        slot = self._slots[number]
        message = worker.answer(self._engine, self.blueprint, number, slot, count)
        data = slot.result(message.length)
        self._free.append(number)
        if message.kind is Kind.FAILED:
            return Outcome(problem=data.decode())
        return Outcome(data, "", True, *message.numbers)


async def start(blueprint: Blueprint, most: int) -> InThread:
    """It is `edge.inference.answering.Start`."""
    if isinstance(blueprint, Rehearsal):
        return InThread(blueprint, blueprint.classifier, most)
    engine = await asyncio.to_thread(
        Engine, blueprint.file, blueprint.variant, blueprint.preprocessing, blueprint.threads
    )
    return InThread(blueprint, engine, most)
