"""A camera or a video file as a source, by OpenCV.

A camera cannot wait: overload drops the oldest pictures, and they are counted. A file can: none of its pictures is lost
or doubled, whatever is killed, and when it has ended it is done.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import structlog

from edge.foundation.threads import finished
from edge.inference.bookmark import Bookmark, Notes, Place
from edge.inference.entities import Blueprint, FrameRun, Overload, SourceBusy
from edge.inference.fitting import fitting, picture_shape
from edge.inference.happenings import source_unusable
from edge.inference.intake import Intake
from edge.inference.picture_steps import Pixels
from edge.inference.service import Inference

LOOK_S = 0.2
RETRY_S = 5.0
RUN_PICTURES = 64
RUN_BYTES = 4 * 1024 * 1024
"""Of a file so many pictures are handed in at once."""

log = structlog.get_logger()


class Video:
    """Open. name: a number, a device, a file, or what else OpenCV opens, as rtsp://. Raises OSError. Methods block."""

    def __init__(self, name: str) -> None:
        self.is_file = Path(name).is_file()
        self._capture = cv2.VideoCapture(int(name) if name.isdecimal() else name)
        if not self._capture.isOpened():
            raise OSError(f"{name} cannot be opened as a video: is it there, and may this process read it?")

    def pass_over(self, count: int) -> None:
        """The first pictures of a file. One by one: a jump would not be exact in every format."""
        for _ in range(count):
            self._capture.grab()

    def frames(self, shape: tuple[int, ...], most: int) -> Pixels:
        """The next pictures as frames, (n, *shape), n up to `most`; fewer at the end of a file."""
        fitted: list[Pixels] = []
        while len(fitted) < most:
            there, picture = self._capture.read()
            if not there:
                break
            rgb = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
            fitted.append(fitting(rgb.shape, shape)(rgb[None]))
        return np.concatenate([np.empty((0, *shape), np.uint8), *fitted])

    def close(self) -> None:
        """Let the device go."""
        self._capture.release()


class Camera:
    """Feeds pictures as the source of this name. bookmark: the file that notes how far a file was read."""

    def __init__(self, video: str, source: str, inference: Inference, bookmark: Path) -> None:
        self._video = video
        self._source = source
        self._inference = inference
        self._bookmark = bookmark

    async def run(self) -> None:
        """Watch until cancelled, or until a file has ended; what cannot be used now is tried again later."""
        while True:
            try:
                shape = picture_shape(await self._blueprint())
                video = await finished(Video, self._video)
                try:
                    if video.is_file:
                        return await self._read(video)
                    await self._watch(video, shape)
                finally:
                    await finished(video.close)
            except (OSError, ValueError, SourceBusy, cv2.error) as error:
                log.warning("camera cannot be used", camera=self._video, error=str(error))
                self._inference.tell(source_unusable(self._source, error))
            await asyncio.sleep(RETRY_S)

    async def _watch(self, video: Video, shape: tuple[int, ...]) -> None:
        async with self._inference.intake(self._source, Overload.DROP_OLDEST) as intake:
            following = intake.watermark + 1
            settling = asyncio.create_task(Notes(intake, None).keep(), name="pictures that are settled")
            try:
                while True:
                    shape = picture_shape(await self._blueprint())
                    frames = await finished(video.frames, shape, 1)
                    if not len(frames):
                        raise OSError("it gives no pictures any more")
                    await self._hand_over(intake, following, frames)
                    following = intake.accepted + 1
            finally:
                settling.cancel()
                await asyncio.gather(settling, return_exceptions=True)

    async def _read(self, video: Video) -> None:
        """A file to its end."""
        with _opened(self._video) as descriptor:
            async with self._inference.intake(self._source) as intake:
                notes = Notes(intake, Bookmark(self._bookmark, descriptor))
                settling = asyncio.create_task(notes.keep(), name="pictures that are settled")
                try:
                    await self._read_on(video, intake, notes)
                    await settling
                finally:
                    settling.cancel()
                    await asyncio.gather(settling, return_exceptions=True)
                    await finished(notes.write)

    async def _read_on(self, video: Video, intake: Intake, notes: Notes) -> None:
        place = await finished(notes.start, "")
        await finished(video.pass_over, place.offset)
        while True:
            shape = picture_shape(await self._blueprint())
            most = max(1, min(RUN_PICTURES, RUN_BYTES // int(np.prod(shape))))
            frames = await finished(video.frames, shape, most)
            if not len(frames):
                return intake.end()
            await self._hand_over(intake, place.frame, frames)
            if intake.accepted < place.frame + len(frames) - 1:
                raise ValueError("the model has changed while its frames were made")
            place = Place(place.frame + len(frames), place.offset + len(frames))
            notes.add(place)

    async def _hand_over(self, intake: Intake, first_frame: int, frames: Pixels) -> None:
        captured = np.full(len(frames), time.time_ns() // 1000, np.int64)
        run = FrameRun(first_frame, frames.reshape(len(frames), -1), captured, time.monotonic_ns())
        await self._inference.hand_over(intake, run)

    async def _blueprint(self) -> Blueprint:
        """Of the model that serves, once there is one."""
        while (blueprint := self._inference.blueprint) is None:  # noqa: ASYNC110 - looked for as files are
            await asyncio.sleep(LOOK_S)
        return blueprint


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
