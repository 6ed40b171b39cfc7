"""A broker on the device or beside it: frames come in on one topic, results go out on another."""

from __future__ import annotations

import json
import time

import numpy as np
import structlog

from edge.inference.entities import FrameRun, Overload
from edge.inference.intake import Intake
from edge.inference.pictures import Unreadable, frames
from edge.inference.service import Inference
from edge.inference.sinks import Write, as_json
from protos.kit.columns import Results
from protos.kit.link import Link

ROWS_A_MESSAGE = 400
"""So that a message stays below the 128 KB that every broker takes."""

log = structlog.get_logger()


class FramesTopic:
    """Each message on `topic` holds one frame or several. A broker cannot be held back: overload drops the oldest."""

    def __init__(self, link: Link, topic: str, source: str, inference: Inference) -> None:
        self._link = link
        self._topic = topic
        self._source = source
        self._inference = inference

    async def run(self) -> None:
        """Take frames until cancelled."""
        async with self._inference.intake(self._source, Overload.DROP_OLDEST) as intake:
            following = intake.watermark + 1

            async def take(_: str, data: bytes) -> None:
                nonlocal following
                following += await self._take(intake, data, following)

            await self._link.subscribe(take, self._topic)
            async for reply in intake.replies():
                if reply.problem:
                    log.warning("frames of a topic have no result", topic=self._topic, problem=reply.problem)

    async def _take(self, intake: Intake, data: bytes, first_frame: int) -> int:
        """Hand the frames of a message in; returns how many they are."""
        serving = self._inference.blueprint
        try:
            if serving:
                pixels = frames(data, serving.frame_bytes, serving.frame_dtype)
            else:
                pixels = frames(data, max(1, len(data)))
        except Unreadable as error:
            intake.refuse(f"a message of {len(data)} bytes: {error}")
            return 0
        captured = np.full(len(pixels), time.time_ns() // 1000, np.int64)
        await self._inference.hand_over(intake, FrameRun(first_frame, pixels, captured, time.monotonic_ns()))
        return len(pixels)


def to_topic(link: Link, topic: str) -> Write:
    """Publish results as JSON arrays."""

    async def write(results: Results) -> None:
        found = as_json(results)
        for start in range(0, len(found), ROWS_A_MESSAGE):
            await link.publish(topic, json.dumps(found[start : start + ROWS_A_MESSAGE]).encode())

    return write
