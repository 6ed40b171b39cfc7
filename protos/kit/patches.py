"""What both ends say of a patch alike."""

from __future__ import annotations

from protos.v1.manifest_pb2 import COMPRESSION_NONE, Artifact, Patch


def as_artifact(patch: Patch) -> Artifact:
    """The patch as it travels: an artifact like any other, of which nothing is compressed once more."""
    return Artifact(digest=patch.digest, size=bytes_of(patch), compression=COMPRESSION_NONE, chunks=patch.chunks)


def bytes_of(what: Artifact | Patch) -> int:
    """Bytes that all chunks take on the wire, without topics and envelopes."""
    return sum(chunk.size for chunk in what.chunks)
