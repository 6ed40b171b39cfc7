"""Questions of applications on the device: frames that someone waits for the answers to.

They take the way of all frames, so their results are durable and go to the cloud like any other; the answers are read
from the results once these are committed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.inference import rules
from edge.inference.entities import FrameRun
from edge.inference.intake import Intake
from edge.inference.service import Inference
from edge.uplink.entities import NewBatch
from protos.kit import columns
from protos.kit.columns import Results

SOURCE = "requests"


class Unanswered(Exception):
    """The model gave no result for these frames, or there is none now. The message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """By which model, and for each frame: label uint16 (n,), confidence float32 (n,)."""

    model: str
    version: int
    label: NDArray[np.uint16]
    confidence: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Frames first .. last, and what has been answered of them."""

    first: int
    last: int
    answer: asyncio.Future[Answer]
    parts: list[Answer] = field(default_factory=list)

    def add(self, results: Results) -> None:
        """Note the answers that are this question's, of a batch that may hold those of others."""
        mine = (results.frame >= self.first) & (results.frame <= self.last)
        if mine.any():
            self.parts.append(Answer(results.model, results.version, results.label[mine], results.confidence[mine]))

    def end(self) -> None:
        """All of its frames are settled."""
        if self.answer.done():
            return  # the caller is gone
        label = np.concatenate([part.label for part in self.parts]) if self.parts else np.empty(0, np.uint16)
        if len(label) != self.last - self.first + 1:
            self.answer.set_exception(Unanswered("the model has no result for these frames: see the agent's log"))
            return
        confidence = np.concatenate([part.confidence for part in self.parts])
        self.answer.set_result(Answer(self.parts[-1].model, self.parts[-1].version, label, confidence))


def of_model(requests: Sequence[Requests], model: str) -> Requests:
    """Those of the slot that runs this model; if none does, of the main slot, which is the first."""
    serving = ((one, one.inference.blueprint) for one in requests)
    return next((one for one, blueprint in serving if blueprint and blueprint.model == model), requests[0])


class Requests:
    """One source for all applications that ask; `run` keeps it open."""

    def __init__(self, inference: Inference) -> None:
        self.inference = inference
        self._open: deque[_Question] = deque()
        self._intake: Intake | None = None
        self._following = 1
        self._turn = asyncio.Lock()
        inference.on_results(self._take)

    async def run(self) -> None:
        """Take questions until cancelled."""
        async with self.inference.intake(SOURCE) as intake:
            self._intake, self._following = intake, intake.watermark + 1
            try:
                await intake.parted()
            finally:
                self._intake = None

    async def ask(self, pixels: NDArray[np.uint8]) -> Answer:
        """The answers to uint8 frames (n, bytes of a frame), n from 1 up, once they are durable.

        Raises Unanswered, or ValueError for frames that are not the model's.
        """
        if self._intake is None or (blueprint := self.inference.blueprint) is None:
            raise Unanswered("no model is deployed here yet")
        if problem := rules.unusable(pixels, blueprint):
            raise ValueError(problem)
        async with self._turn:  # numbers rise in the order of the hand-over
            question = await self._hand_over(self._intake, pixels)
        return await question.answer

    async def _hand_over(self, intake: Intake, pixels: NDArray[np.uint8]) -> _Question:
        first, last = self._following, self._following + len(pixels) - 1
        question = _Question(first, last, asyncio.get_running_loop().create_future())
        self._open.append(question)
        captured = np.full(len(pixels), time.time_ns() // 1000, np.int64)
        try:
            await self.inference.hand_over(intake, FrameRun(first, pixels, captured, time.monotonic_ns()))
        finally:
            if intake.accepted < last:  # refused, since the model has changed, or the caller is gone
                self._open.remove(question)
                question.answer.set_exception(Unanswered("the model has just changed: ask again"))
                question.answer.exception()  # if nobody waits any more, that is no error
        self._following = last + 1
        return question

    def _take(self, batch: NewBatch) -> None:
        if batch.source != SOURCE:
            return
        results = columns.decode(batch.payload, batch.count) if batch.count else None
        for question in tuple(self._open):
            if results:
                question.add(results)
            if question.last <= batch.last_frame:
                self._open.popleft()
                question.end()
