"""An artifact on its way, on disk: what a killed agent had written, it does not fetch again."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType

import zstandard

from edge.delivery.entities import Chunk, Rejected
from edge.delivery.rules import Download, accept
from protos.kit.files import sync_folder
from protos.v1 import manifest_pb2

SYNC_EVERY_BYTES = 1024 * 1024
READ_BYTES = 256 * 1024
MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""Memory that decompression may take, whatever the stream asks for."""


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
            _reserve(self._descriptor, self._offsets[-1])
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def prove(self) -> None:
        """Find out which chunks are here by reading them all."""
        self.download = self._empty
        for index, size in enumerate(self._empty.sizes):
            self.download, _ = accept(self.download, index, os.pread(self._descriptor, size, self._offsets[index]))

    def take(self, chunks: Sequence[tuple[int, bytes]]) -> list[Chunk]:
        """Prove each (index, bytes) and write it to its place. Raises OSError if the disk does not take one."""
        return [self._take_one(index, data) for index, data in chunks]

    def unpack(self, artifact: manifest_pb2.Artifact, target: Path) -> None:
        """Decompress into `target`, durably, and remove this file.

        Raises Rejected if what the manifest promises is not the artifact, OSError if the disk is at fault.
        """
        try:
            self._write_unpacked(artifact, target)
        except Rejected:
            self.prove()
            if not self.download.complete:
                raise OSError(errno.EIO, "the disk gives back other bytes than were written", str(self._path)) from None
            self._path.unlink(missing_ok=True)
            raise
        self._path.unlink(missing_ok=True)

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

    def _write_unpacked(self, artifact: manifest_pb2.Artifact, target: Path) -> None:
        beside = target.with_name(f".{target.name}.unpacking")
        try:
            with beside.open("wb") as file:
                for piece in self._proven_pieces(artifact):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(target.parent)

    def _proven_pieces(self, artifact: manifest_pb2.Artifact) -> Iterator[bytes]:
        """The uncompressed file; raises Rejected at the first byte too many, or at the end if it is another file."""
        digest, size = hashlib.sha256(), 0
        try:
            for piece in self._pieces(artifact):
                size += len(piece)
                if size > artifact.size:
                    raise Rejected(f"unpacks to more than the {artifact.size} bytes that its manifest promises")
                digest.update(piece)
                yield piece
        except zstandard.ZstdError as error:
            raise Rejected(f"cannot be unpacked: {error}") from error
        if digest.digest() != artifact.digest:
            raise Rejected("the unpacked bytes are not those that the manifest names")

    def _pieces(self, artifact: manifest_pb2.Artifact) -> Iterator[bytes]:
        """The uncompressed file, a bounded piece at a time."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            if artifact.compression == manifest_pb2.COMPRESSION_NONE:
                yield from iter(lambda: file.read(READ_BYTES), b"")
                return
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
            with decompressor.stream_reader(file, read_size=READ_BYTES, closefd=False) as reader:
                yield from iter(lambda: reader.read(READ_BYTES), b"")


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
