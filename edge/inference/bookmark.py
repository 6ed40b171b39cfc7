"""Where in a file the next frame begins that has no durable result yet, so that a source goes on there after a kill.

A file is known again by its inode and its first bytes: an inode alone is soon another file's. What is noted may lag
behind the source's watermark; the frames between the two are made again, under their numbers, and so not taken twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from edge.foundation.threads import finished
from edge.inference.intake import Intake
from protos.kit.files import write_durably

HEAD_BYTES = 4096
NOTE_S = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """Frame `frame` begins at `offset`. framing: how frames are made of the file. skip: what that needs besides."""

    frame: int
    offset: int
    skip: int = 0
    framing: str = ""


class Bookmark:
    """The place in one open file, kept in a small file of its own. Raises OSError."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._inode = [status.st_dev, status.st_ino]

    def read(self) -> Place | None:
        """What was noted of this file; None if nothing was, or of another one."""
        try:
            noted = json.loads(self._path.read_text())
            place = Place(**noted["place"])
            known = noted["inode"] == self._inode and noted["head"] == self._head(int(noted["head_bytes"]))
            known = known and place.offset <= os.fstat(self._descriptor).st_size  # else it was emptied
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return place if known else None

    def write(self, place: Place) -> None:
        """Note it; durable when this returns."""
        size = min(HEAD_BYTES, os.fstat(self._descriptor).st_size)
        noted = {"place": asdict(place), "inode": self._inode, "head": self._head(size), "head_bytes": size}
        write_durably(self._path, json.dumps(noted).encode())

    def _head(self, size: int) -> str:
        return hashlib.sha256(os.pread(self._descriptor, size, 0)).hexdigest()


class Notes:
    """Follows what is settled of one source's stream. bookmark: None where the stream cannot be read again."""

    def __init__(self, intake: Intake, bookmark: Bookmark | None) -> None:
        self._intake = intake
        self._bookmark = bookmark
        self._handed_in: deque[Place] = deque()
        self._settled: Place | None = None
        self._noted = time.monotonic()

    def start(self, framing: str) -> Place:
        """Where to begin. It is noted before any frame of it is handed in."""
        noted = self._bookmark.read() if self._bookmark else None
        if noted is None or noted.framing != framing:
            noted = Place(self._intake.watermark + 1, noted.offset if noted else 0, 0, framing)
        self._settled = noted
        self.write()
        return noted

    def add(self, following: Place) -> None:
        """All frames before this place are handed in."""
        self._handed_in.append(following)

    async def keep(self) -> None:
        """Until the source has ended or left."""
        async for reply in self._intake.replies():
            if reply.problem:
                log.warning("frames have no result", source=self._intake.source, problem=reply.problem)
            while self._handed_in and self._handed_in[0].frame - 1 <= reply.watermark:
                self._settled = self._handed_in.popleft()
            if time.monotonic() - self._noted >= NOTE_S:
                await finished(self.write)

    def write(self) -> None:
        """Note what is settled."""
        self._noted = time.monotonic()
        if self._bookmark is None or self._settled is None:
            return
        try:
            self._bookmark.write(self._settled)
        except OSError as error:
            log.warning("place in a file not noted", source=self._intake.source, error=str(error))
