"""An artifact on its way, on disk: what a killed agent had written, it does not fetch again."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from edge.delivery.entities import Chunk, Rejected
from edge.delivery.rules import Download, accept, wanted
from edge.delivery.unpacking import unpacked, write
from protos.v1 import manifest_pb2

SYNC_EVERY_BYTES = 1024 * 1024

Read = Callable[[BinaryIO], Iterator[bytes]]
"""From the bytes that travelled to the file, a bounded piece at a time."""


class Partial:
    """One file with each chunk at its place. What is present is not written down but proven at each start.

    So no order of writes can make a wrong byte count: a chunk is what its digest says, or it is missing.
    """

    def __init__(self, path: Path, empty: Download) -> None:
        self._path = path
        self._empty = empty
        self._offsets = [0, *accumulate(empty.sizes)]
        self._unsynced = 0
        self.download = empty
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._is_new = os.fstat(self._descriptor).st_size == 0
            _reserve(self._descriptor, self._offsets[-1])
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; once is enough. What is in it stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def prove(self) -> None:
        """Find out which chunks are here by reading them all; of a file that has just been made none can be."""
        self.download = self._empty
        if self._is_new:
            self._is_new = False
            return
        for index, size in enumerate(self._empty.sizes):
            self.download, _ = accept(self.download, index, os.pread(self._descriptor, size, self._offsets[index]))

    def take(self, chunks: Sequence[tuple[int, bytes]]) -> list[Chunk]:
        """Prove each (index, bytes) and write it to its place. Raises OSError if the disk does not take one."""
        return [self._take_one(index, data) for index, data in chunks]

    def reuse(self, others: Iterable[Path]) -> int:
        """Take over the chunks that other files have at any of this one's places; returns how many.

        A file that cannot be read has none. Raises OSError if the disk does not take one.
        """
        before, lacking = self.download.count, wanted(self.download)
        for path in others:
            for data in self._pieces_of(path, lacking):
                self.take([(index, data) for index in lacking.pop(hashlib.sha256(data).digest())])
        return self.download.count - before

    def unpack(self, artifact: manifest_pb2.Artifact, target: Path, read: Read | None = None) -> None:
        """Make `target` of the chunks, durably, and remove this file. `read`: how, if not as the artifact says.

        Raises Rejected if what the manifest promises is not the artifact, OSError if the disk is at fault.
        """
        try:
            with os.fdopen(os.dup(self._descriptor), "rb") as file:
                file.seek(0)
                write(read(file) if read else unpacked(file, artifact), artifact, target)
        except Rejected:
            self.prove()
            if not self.download.complete:
                raise OSError(errno.EIO, "the disk gives back other bytes than were written", str(self._path)) from None
            self._path.unlink(missing_ok=True)
            raise
        self._path.unlink(missing_ok=True)

    def _pieces_of(self, path: Path, lacking: Mapping[bytes, object]) -> Iterator[bytes]:
        """The pieces of another file, where this one has its chunks, that are lacking now."""
        with suppress(OSError), path.open("rb") as file:
            for offset, size in zip(self._offsets, self._empty.sizes, strict=False):
                data = os.pread(file.fileno(), size, offset)
                if hashlib.sha256(data).digest() in lacking:
                    yield data

    def _take_one(self, index: int, data: bytes) -> Chunk:
        download, verdict = accept(self.download, index, data)
        if verdict is Chunk.NEW:
            self._write(self._offsets[index], data)
            self.download = download
        return verdict

    def _write(self, offset: int, data: bytes) -> None:
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], offset + written)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_EVERY_BYTES:
            os.fdatasync(self._descriptor)
            self._unsynced = 0


def _reserve(descriptor: int, size: int) -> None:
    """Make the file exactly so long, its blocks its own: a full disk is found out before the first chunk is fetched."""
    before = os.fstat(descriptor).st_size
    os.ftruncate(descriptor, size)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve
            os.ftruncate(descriptor, min(before, size))
            raise
