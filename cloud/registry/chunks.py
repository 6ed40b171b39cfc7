"""How a file travels: compressed once as a whole, then cut into chunks that each fit one message. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate

import zstandard

from protos.topics import MAX_CHUNK_BYTES
from protos.v1.manifest_pb2 import COMPRESSION_NONE, COMPRESSION_ZSTD, Artifact, ChunkRef

LEVEL = 12
"""zstd's level: paid once when a version is registered, saved for each device that fetches it."""


def compress(data: bytes) -> bytes:
    """One zstd frame that states its content's size."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


def cut(travelling: bytes) -> list[ChunkRef]:
    """The chunks, in order, of a file in the form in which it travels."""
    pieces = (travelling[start : start + MAX_CHUNK_BYTES] for start in range(0, len(travelling), MAX_CHUNK_BYTES))
    return [ChunkRef(digest=hashlib.sha256(piece).digest(), size=len(piece)) for piece in pieces]


def plan(data: bytes) -> tuple[Artifact, bytes]:
    """How the file `data` travels, and its bytes in that form. What does not shrink travels as it is."""
    compressed = compress(data)
    pays = len(compressed) < len(data)
    travelling = compressed if pays else data
    artifact = Artifact(
        digest=hashlib.sha256(data).digest(),
        size=len(data),
        compression=COMPRESSION_ZSTD if pays else COMPRESSION_NONE,
        chunks=cut(travelling),
    )
    return artifact, travelling


def offsets(chunks: Sequence[ChunkRef]) -> list[int]:
    """Where each chunk begins in the travelling form, and at last where that ends, in bytes."""
    return [0, *accumulate(chunk.size for chunk in chunks)]
