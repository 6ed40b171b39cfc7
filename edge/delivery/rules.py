"""Reassembly: which chunks are here, which to ask for next, when to ask for a repair. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from edge.delivery.entities import Chunk, Rejected
from protos.kit.patches import bytes_of
from protos.topics import MAX_ARTIFACT_BYTES, MAX_CHUNK_BYTES
from protos.v1 import manifest_pb2

DIGEST_BYTES = 32
LONGEST_PATIENCE_S = 60.0
KNOWN_PATCHES = (manifest_pb2.PATCH_KIND_DIFFERENCE, manifest_pb2.PATCH_KIND_DICTIONARY)


@dataclass(frozen=True, slots=True)
class Download:
    """The chunks of one artifact. `present` has bit i set when chunk i is here and proven."""

    digests: tuple[bytes, ...]
    sizes: tuple[int, ...]
    present: int = 0

    @property
    def missing(self) -> Iterator[int]:
        """Indices of the chunks that are not here, in order."""
        return (index for index in range(len(self.digests)) if not self.present >> index & 1)

    @property
    def count(self) -> int:
        """Chunks that are here."""
        return self.present.bit_count()

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return self.count == len(self.digests)


def plan(artifact: manifest_pb2.Artifact) -> Download:
    """The download of an artifact of which nothing is here. Raises Rejected for what no device can fetch."""
    if len(artifact.digest) != DIGEST_BYTES or not 0 < artifact.size <= MAX_ARTIFACT_BYTES:
        raise Rejected(f"an artifact has a SHA-256 and 1 to {MAX_ARTIFACT_BYTES} bytes, not {artifact.size}")
    if artifact.compression not in (manifest_pb2.COMPRESSION_NONE, manifest_pb2.COMPRESSION_ZSTD):
        raise Rejected(f"compression {artifact.compression} is not known to this agent; a newer one may know it")
    if not artifact.chunks:
        raise Rejected("an artifact has at least one chunk")
    for index, chunk in enumerate(artifact.chunks):
        if len(chunk.digest) != DIGEST_BYTES or not 0 < chunk.size <= MAX_CHUNK_BYTES:
            raise Rejected(f"chunk {index} has {chunk.size} bytes; 1 to {MAX_CHUNK_BYTES} are allowed")
    return Download(tuple(c.digest for c in artifact.chunks), tuple(c.size for c in artifact.chunks))


def accept(download: Download, index: int, data: bytes) -> tuple[Download, Chunk]:
    """The download after `data` came as chunk `index`. Only bytes with the promised digest ever count."""
    if not 0 <= index < len(download.digests) or len(data) != download.sizes[index]:
        return download, Chunk.CORRUPT
    if download.present >> index & 1:
        return download, Chunk.DUPLICATE
    if hashlib.sha256(data).digest() != download.digests[index]:
        return download, Chunk.CORRUPT
    return replace(download, present=download.present | 1 << index), Chunk.NEW


def wanted(download: Download) -> dict[bytes, list[int]]:
    """The missing chunks by their digest: equal ones are wanted in several places."""
    found: dict[bytes, list[int]] = {}
    for index in download.missing:
        found.setdefault(download.digests[index], []).append(index)
    return found


def choose_patch(artifact: manifest_pb2.Artifact, held: Collection[bytes]) -> manifest_pb2.Patch | None:
    """The shortest way to the artifact from one of the files with the digests `held`; None: fetching it whole."""
    whole = bytes_of(artifact)
    usable = (patch for patch in artifact.patches if patch.base in held and _is_known(patch))
    return min((patch for patch in usable if 0 < bytes_of(patch) < whole), key=bytes_of, default=None)


def next_wanted(download: Download, asked: Iterable[int], window: int) -> list[int]:
    """The chunks to ask for now, so that at most `window` are on their way."""
    on_their_way = set(asked)
    free = max(0, window - len(on_their_way))
    return list(islice((index for index in download.missing if index not in on_their_way), free))


def overdue(asked: Mapping[int, float], now_s: float, patience_s: float) -> list[int]:
    """The chunks that were asked for at least `patience_s` ago. asked: chunk to the time of asking, in seconds."""
    return sorted(index for index, since in asked.items() if now_s - since >= patience_s)


def bitmap(indices: Iterable[int], chunks: int) -> bytes:
    """The bitmap of a RepairRequest for an artifact of `chunks` chunks: bit i % 8 of byte i / 8 is chunk i."""
    bits = bytearray((chunks + 7) // 8)
    for index in indices:
        bits[index // 8] |= 1 << index % 8
    return bytes(bits)


def patience(first_s: float, repairs: int, randomness: float) -> float:
    """Seconds to wait for a chunk after `repairs` requests in vain: doubling, capped, up to a half more by jitter.

    `randomness` in [0, 1).
    """
    return float(min(LONGEST_PATIENCE_S, first_s * 2.0 ** min(repairs, 10)) * (1 + randomness / 2))


def _is_known(patch: manifest_pb2.Patch) -> bool:
    """Whether this agent can apply it, and name its topics and file."""
    return patch.kind in KNOWN_PATCHES and len(patch.digest) == DIGEST_BYTES
