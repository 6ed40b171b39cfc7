"""A sensor's stream of numbers as a source: windows of it are frames of a 1-D CNN.

A file is gone on with after a kill: no window is lost or doubled. What has come by a FIFO or a serial port and has no
result when the agent ends is lost. A serial port cannot wait: overload drops the oldest windows, and they are counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from edge.foundation.threads import finished
from edge.inference.bookmark import Bookmark, Notes, Place
from edge.inference.entities import FrameRun, Overload, SourceBusy
from edge.inference.happenings import source_unusable
from edge.inference.intake import Intake
from edge.inference.samples import Lines
from edge.inference.service import Inference
from edge.inference.stream import Stream
from edge.inference.windows import Cutter, Framing

LOOK_S = 0.2
RETRY_S = 5.0
COMPLAIN_S = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the numbers come from, and how they are read. columns: from 0. hop: samples, 0: as long as a window."""

    path: Path
    hop: int = 0
    columns: Sequence[int] = ()
    baud: int = 0


class Sensor:
    """Feeds windows as the source of this name. bookmark: the file that notes how far a file was read."""

    def __init__(self, reading: Reading, source: str, inference: Inference, bookmark: Path) -> None:
        self._reading = reading
        self._source = source
        self._inference = inference
        self._bookmark = bookmark
        self._complained = -COMPLAIN_S

    async def run(self) -> None:
        """Read until cancelled, or until standard input ends; what cannot be used now is tried again later."""
        comes_back = True
        while comes_back:
            try:
                comes_back = await self._read()
            except (OSError, ValueError, SourceBusy) as error:
                log.warning("sensor cannot be read", path=str(self._reading.path), error=str(error))
                self._inference.tell(source_unusable(self._source, error))
                await asyncio.sleep(RETRY_S)

    async def _read(self) -> bool:
        """One stream until it is over; whether another one follows it."""
        await self._framing()
        stream = await finished(Stream, self._reading.path, self._reading.baud)
        try:
            overload = Overload.WAIT if stream.can_wait else Overload.DROP_OLDEST
            async with self._inference.intake(self._source, overload) as intake:
                notes = Notes(intake, Bookmark(self._bookmark, stream.descriptor) if stream.is_file else None)
                settling = asyncio.create_task(notes.keep(), name="windows that are settled")
                try:
                    await self._feed(stream, intake, notes)
                    await settling
                finally:
                    settling.cancel()
                    await asyncio.gather(settling, return_exceptions=True)
                    await finished(notes.write)
            return stream.comes_back
        finally:
            stream.close()

    async def _feed(self, stream: Stream, intake: Intake, notes: Notes) -> None:
        cutter: Cutter | None = None
        place = await finished(notes.start, str(await self._framing()))
        while True:
            framing = await self._framing()
            if cutter is None or cutter.framing != framing:
                place = place if place.framing == str(framing) else replace(place, skip=0, framing=str(framing))
                cutter = Cutter(framing, self._reading.columns, place.offset, place.skip)
                await finished(stream.seek, place.offset)
            data = await finished(stream.read)
            if data is None:
                return intake.end()
            for cut in await finished(cutter.cut, data) if data else ():
                if not await self._hand_over(intake, place.frame, cut.windows):
                    cutter = None  # the model has changed: from here on by its framing
                    break
                place = Place(place.frame + len(cut.windows), cut.place, cut.skip, str(framing))
                notes.add(place)
            if cutter:
                self._complain(cutter.lines)

    async def _hand_over(self, intake: Intake, frame: int, windows: NDArray[np.uint8]) -> bool:
        """Whether they were taken."""
        captured = np.full(len(windows), time.time_ns() // 1000, np.int64)
        run = FrameRun(frame, windows, captured, time.monotonic_ns())
        await self._inference.hand_over(intake, run)
        return intake.accepted >= run.last_frame

    async def _framing(self) -> Framing:
        """By the model that serves, once there is one."""
        while (blueprint := self._inference.blueprint) is None:  # noqa: ASYNC110 - looked for as files are
            await asyncio.sleep(LOOK_S)
        return Framing.of(blueprint, self._reading.hop)

    def _complain(self, lines: Lines) -> None:
        now = time.monotonic()
        if lines.malformed and now - self._complained >= COMPLAIN_S:
            self._complained = now
            log.warning("lines are no samples", path=str(self._reading.path), lines=lines.malformed, last=lines.problem)
