"""What the engine's thread does with one micro-batch: infer, check, encode once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from edge.inference import rules
from edge.inference.entities import Answers, MicroBatch, Serving
from edge.uplink.entities import NewBatch
from protos.kit import columns

TRIES = 2

_Number = TypeVar("_Number", bound=np.generic)

log = structlog.get_logger()


class BadAnswers(Exception):
    """The engine answered, but not with one sound answer for each frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A micro-batch's end: results, or the problem why it has none. latency_us: uint32 (n,), empty without results."""

    new: NewBatch
    latency_us: NDArray[np.uint32]
    problem: str = ""


def answer(batch: MicroBatch, serving: Callable[[], Serving]) -> Outcome:
    """The results of the model that serves when it begins, or of the one that serves at the second try.

    After TRIES failures there are none: frames that cannot be answered must not stop those behind them.
    """
    problem = ""
    for _ in range(TRIES):
        by = serving()
        try:
            return _results(batch, by)
        except Exception as error:  # noqa: BLE001 - whatever an interpreter raises concerns these frames only
            problem = f"{type(error).__name__}: {error}"
            log.warning(
                "inference failed",
                source=batch.source,
                frames=len(batch),
                last_frame=batch.last_frame,
                model=by.model,
                version=by.version,
                error=problem,
            )
    problem = f"frames {batch.runs[0].first_frame} to {batch.last_frame} have no result: {problem}"
    return Outcome(NewBatch(0, b"", batch.source, batch.last_frame), np.empty(0, np.uint32), problem)


def _results(batch: MicroBatch, serving: Serving) -> Outcome:
    pixels = _joined([run.pixels for run in batch.runs])
    if problem := rules.misfit(pixels.shape[1], serving.engine.frame_shape):
        raise BadAnswers(problem)
    answers = serving.engine.classify(pixels.reshape(len(pixels), *serving.engine.frame_shape))
    _check(answers, len(batch))
    now_ns = time.monotonic_ns()
    sizes = [len(run) for run in batch.runs]
    waited_us = [min((now_ns - run.taken_ns) // 1000, 2**32 - 1) for run in batch.runs]
    latency_us = np.repeat(np.array(waited_us, np.uint32), sizes)
    payload = columns.encode(
        columns.Results(
            model=serving.model,
            version=serving.version,
            manifest=serving.manifest,
            source=batch.source,
            frame=_joined([np.arange(run.first_frame, run.last_frame + 1, dtype=np.uint64) for run in batch.runs]),
            captured_us=_joined([run.captured_us for run in batch.runs]),
            label=answers.label,
            confidence=answers.confidence,
            latency_us=latency_us,
        )
    )
    return Outcome(NewBatch(len(batch), payload, batch.source, batch.last_frame), latency_us)


def _joined(parts: Sequence[NDArray[_Number]]) -> NDArray[_Number]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _check(answers: Answers, count: int) -> None:
    if len(answers.label) != count or len(answers.confidence) != count:
        raise BadAnswers(f"{len(answers.label)} answers to {count} frames")
    if not np.isfinite(answers.confidence).all():
        raise BadAnswers("confidence has values that are not numbers")
