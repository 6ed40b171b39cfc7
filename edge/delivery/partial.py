"""An artifact on its way, on disk: what a killed agent had written, it does not fetch again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
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
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._path = path
        self._offsets = [0]
        for size in empty.sizes:
            self._offsets.append(self._offsets[-1] + size)
        self._unsynced = 0
        self.download = self._proven(empty)

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def take(self, index: int, data: bytes) -> Chunk:
        """Prove a chunk and write it to its place. Raises OSError if the disk does not take it: it is missing."""
        download, verdict = accept(self.download, index, data)
        if verdict is Chunk.NEW:
            self._write(self._offsets[index], data)
            self.download = download
        return verdict

    def unpack(self, artifact: manifest_pb2.Artifact, target: Path) -> None:
        """Decompress into `target`, durably, and remove this file. Raises Rejected if that is not the artifact."""
        beside = target.with_name(f".{target.name}.unpacking")
        digest, size = hashlib.sha256(), 0
        try:
            with beside.open("wb") as file:
                for piece in self._pieces(artifact):
                    size += len(piece)
                    if size > artifact.size:
                        raise Rejected(f"unpacks to more than the {artifact.size} bytes that its manifest promises")
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if digest.digest() != artifact.digest:
                raise Rejected("the unpacked bytes are not those that the manifest names")
            beside.replace(target)
        except zstandard.ZstdError as error:
            raise Rejected(f"cannot be unpacked: {error}") from error
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(target.parent)
        self._path.unlink(missing_ok=True)

    def _proven(self, empty: Download) -> Download:
        download = empty
        for index, size in enumerate(empty.sizes):
            download, _ = accept(download, index, os.pread(self._descriptor, size, self._offsets[index]))
        return download

    def _write(self, offset: int, data: bytes) -> None:
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], offset + written)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_EVERY_BYTES:
            os.fdatasync(self._descriptor)
            self._unsynced = 0

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
