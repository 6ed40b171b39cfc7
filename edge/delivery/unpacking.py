"""From the bytes that travelled to the file: unpacked or patched a bounded piece at a time, proven, written durably."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zstandard

from edge.delivery.entities import Rejected
from protos.kit.files import sync_folder
from protos.topics import MAX_DICTIONARY_BYTES
from protos.v1.manifest_pb2 import COMPRESSION_ZSTD, PATCH_KIND_DICTIONARY, Artifact, PatchKind

READ_BYTES = 256 * 1024
MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""Memory that decompression may take, whatever the stream asks for."""


def write(pieces: Iterable[bytes], artifact: Artifact, target: Path) -> None:
    """Make `target` of `pieces`, durably, if they are the artifact's file; else it is left as it was.

    Raises Rejected if they are not, OSError if the disk is at fault.
    """
    beside = target.with_name(f".{target.name}.unpacking")
    try:
        with beside.open("wb") as file:
            for piece in _proven(pieces, artifact):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(target.parent)


def as_it_is(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of `file`."""
    yield from iter(lambda: file.read(READ_BYTES), b"")


def unpacked(file: BinaryIO, artifact: Artifact) -> Iterator[bytes]:
    """What the artifact's travelling form in `file` stands for."""
    yield from _decompressed(file) if artifact.compression == COMPRESSION_ZSTD else as_it_is(file)


def patched(file: BinaryIO, kind: PatchKind, base: Path) -> Iterator[bytes]:
    """What the patch in `file` makes of `base`. Raises Rejected, also for a base that cannot be read any more."""
    try:
        with base.open("rb") as old:
            yield from _from_dictionary(file, old) if kind == PATCH_KIND_DICTIONARY else _from_difference(file, old)
    except OSError as error:
        raise Rejected(f"cannot be patched: {error}") from error


def _from_difference(file: BinaryIO, base: BinaryIO) -> Iterator[bytes]:
    for piece in _decompressed(file):
        values, old = np.frombuffer(piece, np.uint8).copy(), base.read(len(piece))
        values[: len(old)] += np.frombuffer(old, np.uint8)
        yield values.tobytes()


def _from_dictionary(file: BinaryIO, base: BinaryIO) -> Iterator[bytes]:
    old = base.read(MAX_DICTIONARY_BYTES + 1)
    if len(old) > MAX_DICTIONARY_BYTES:
        raise Rejected(f"a base of over {MAX_DICTIONARY_BYTES} bytes is too large for a dictionary")
    return _decompressed(file, zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT))


def _decompressed(file: BinaryIO, dictionary: zstandard.ZstdCompressionDict | None = None) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=MAX_WINDOW_BYTES)
    with decompressor.stream_reader(file, read_size=READ_BYTES, closefd=False) as reader:
        yield from iter(lambda: reader.read(READ_BYTES), b"")


def _proven(pieces: Iterable[bytes], artifact: Artifact) -> Iterator[bytes]:
    """`pieces`; raises Rejected at the first byte too many, or at the end if it is another file."""
    digest, size = hashlib.sha256(), 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > artifact.size:
                raise Rejected(f"unpacks to more than the {artifact.size} bytes that its manifest promises")
            digest.update(piece)
            yield piece
    except zstandard.ZstdError as error:
        raise Rejected(f"cannot be unpacked: {error}") from error
    if digest.digest() != artifact.digest:
        raise Rejected("the unpacked bytes are not those that the manifest names")
