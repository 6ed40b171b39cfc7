"""A watched folder as a source: each file in it holds frames, and is gone once their results are durable.

Before its frames are handed in, a file is moved to `taken/` under a name with their numbers. So after a kill it is
known which files are settled, and the others are handed in again under the same numbers: no frame is lost or doubled.
A writer gives a file its name when it is whole; names that begin with a dot are left alone.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from edge.foundation.threads import finished
from edge.inference.entities import Blueprint, FrameRun, SourceBusy
from edge.inference.happenings import source_unusable
from edge.inference.intake import Intake
from edge.inference.pictures import Unreadable, frames
from edge.inference.service import Inference
from protos.kit.files import sync_folder

LOOK_S = 0.2
RETRY_S = 5.0
MAX_FILE_BYTES = 64 * 1024 * 1024
TAKEN = "taken"
REFUSED = "refused"
MAX_NAME_BYTES = 200
"""Longer ones leave no room for the numbers in a file system's 255 bytes."""

UNREADABLE = frozenset({errno.EACCES, errno.EPERM, errno.EIO})
"""Troubles of one file, which will not pass; others are the disk's or the machine's."""

_TAKEN_NAME = re.compile(r"(\d{20})-(\d{1,8})-(.+)", re.DOTALL)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Taken:
    """A file with the numbers of its frames."""

    path: Path
    first_frame: int
    count: int

    @property
    def last_frame(self) -> int:
        """The number of the last frame."""
        return self.first_frame + self.count - 1

    @classmethod
    def parse(cls, path: Path) -> Taken | None:
        """By its name; None for one that this source has not given."""
        found = _TAKEN_NAME.fullmatch(path.name)
        return cls(path, int(found[1]), int(found[2])) if found else None


class Folder:
    """Feeds what comes into `path`, by name in order, as the source of this name."""

    def __init__(self, path: Path, source: str, inference: Inference) -> None:
        self._path = path
        self._source = source
        self._inference = inference

    async def run(self) -> None:
        """Watch until cancelled; a folder that cannot be used now is tried again later."""
        while True:
            try:
                async with self._inference.intake(self._source) as intake:
                    await self._feed(intake)
            except (OSError, SourceBusy) as error:
                log.warning("watched folder cannot be used", folder=str(self._path), error=str(error))
                self._inference.tell(source_unusable(self._source, error))
                await asyncio.sleep(RETRY_S)

    async def _feed(self, intake: Intake) -> None:
        under_way = deque(await finished(self._resume, intake.watermark))
        following = max([intake.watermark, *(taken.last_frame for taken in under_way)]) + 1
        settling = asyncio.create_task(self._settle(intake, under_way), name="files whose frames are settled")
        try:
            for taken in tuple(under_way):
                if (pixels := await finished(self._again, taken, await self._serving())) is not None:
                    await self._hand_over(intake, taken, pixels)
            while not settling.done():
                found = await finished(self._take, following, await self._serving())
                if found is None:
                    await asyncio.sleep(LOOK_S)
                    continue
                taken, pixels = found
                under_way.append(taken)
                following = taken.last_frame + 1
                await self._hand_over(intake, taken, pixels)
            settling.result()
        finally:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)

    async def _settle(self, intake: Intake, under_way: deque[Taken]) -> None:
        async for reply in intake.replies():
            if reply.problem:
                log.warning("frames of a file have no result", folder=str(self._path), problem=reply.problem)
            while under_way and under_way[0].last_frame <= reply.watermark:
                await finished(under_way.popleft().path.unlink, missing_ok=True)

    async def _hand_over(self, intake: Intake, taken: Taken, pixels: NDArray[np.uint8]) -> None:
        captured = np.full(taken.count, time.time_ns() // 1000, np.int64)
        await self._inference.hand_over(intake, FrameRun(taken.first_frame, pixels, captured, time.monotonic_ns()))
        if intake.accepted < taken.last_frame:
            await finished(self._refuse, taken.path, "its frames are none for the model that serves now")

    async def _serving(self) -> Blueprint:
        """The model that serves, once there is one."""
        while (serving := self._inference.blueprint) is None:  # noqa: ASYNC110 - looked for as files are
            await asyncio.sleep(LOOK_S)
        return serving

    def _resume(self, watermark: int) -> list[Taken]:
        """The files that were under way when the agent ended; those that are settled are removed."""
        (self._path / TAKEN).mkdir(parents=True, exist_ok=True)
        (self._path / REFUSED).mkdir(exist_ok=True)
        known = sorted(
            filter(None, map(Taken.parse, (self._path / TAKEN).iterdir())), key=lambda taken: taken.first_frame
        )
        for taken in known:
            if taken.last_frame <= watermark:
                taken.path.unlink()
        return [taken for taken in known if taken.last_frame > watermark]

    def _again(self, taken: Taken, serving: Blueprint) -> NDArray[np.uint8] | None:
        """The frames of a file that was under way; None if they are none for the model that serves now."""
        try:
            pixels = _read(taken.path, serving)
        except Unreadable as error:
            self._refuse(taken.path, str(error))
            return None
        if len(pixels) == taken.count:
            return pixels
        self._refuse(taken.path, f"it has {len(pixels)} frames, and had {taken.count} when it was taken")
        return None

    def _take(self, first_frame: int, serving: Blueprint) -> tuple[Taken, NDArray[np.uint8]] | None:
        """Move the next file that holds frames to those taken; None if there is none."""
        for path in self._waiting():
            try:
                _check_name(path)
                pixels = _read(path, serving)
            except Unreadable as error:
                self._refuse(path, str(error))
                continue
            target = self._path / TAKEN / f"{first_frame:020}-{len(pixels)}-{path.name}"
            path.replace(target)
            sync_folder(target.parent)
            return Taken(target, first_frame, len(pixels)), pixels
        return None

    def _refuse(self, path: Path, reason: str) -> None:
        log.warning("file refused", file=str(path), reason=reason)
        path.replace(self._path / REFUSED / path.name)

    def _waiting(self) -> Iterator[Path]:
        yield from sorted(path for path in self._path.iterdir() if path.is_file() and not path.name.startswith("."))


def _check_name(path: Path) -> None:
    if (size := len(os.fsencode(path.name))) > MAX_NAME_BYTES:
        raise Unreadable(f"its name has {size} bytes, {MAX_NAME_BYTES} are allowed")


def _read(path: Path, serving: Blueprint) -> NDArray[np.uint8]:
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise Unreadable(f"{size} bytes, {MAX_FILE_BYTES} are allowed: cut it into several")
    return frames(_bytes(path), serving.frame_bytes, serving.frame_dtype)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in UNREADABLE:
            raise Unreadable(f"it cannot be read: {error.strerror}") from error
        raise
