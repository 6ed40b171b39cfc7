"""Nothing but the bytes that were promised is ever a manifest or a chunk."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.delivery import mqtt, rules
from edge.delivery.entities import Chunk
from protos.kit import envelope
from protos.v1.manifest_pb2 import COMPRESSION_NONE, Artifact, ChunkRef, Manifest, Variant

CHUNKS = [b"a" * 100, b"b" * 100]


def artifact(chunks: list[bytes]) -> Artifact:
    return Artifact(
        digest=hashlib.sha256(b"".join(chunks)).digest(),
        size=sum(map(len, chunks)),
        compression=COMPRESSION_NONE,
        chunks=[ChunkRef(digest=hashlib.sha256(chunk).digest(), size=len(chunk)) for chunk in chunks],
    )


MANIFEST = Manifest(model="digits", version=1, variants=[Variant(name="int8", artifact=artifact(CHUNKS))])
PAYLOAD = MANIFEST.SerializeToString()


def test_no_changed_byte_of_a_manifest_makes_another_one() -> None:
    sent = envelope.sign(envelope.MANIFEST, PAYLOAD, Ed25519PrivateKey.generate()).SerializeToString()
    believed = 0
    for place in range(len(sent)):
        for bit in range(8):
            changed = bytearray(sent)
            changed[place] ^= 1 << bit
            try:
                assert mqtt._proven(bytes(changed), hashlib.sha256(PAYLOAD).digest()) == PAYLOAD
                believed += 1  # the envelope's signature is not what makes it the right one
            except envelope.Untrusted:
                continue
    assert believed < 8 * (len(sent) - len(PAYLOAD))


@pytest.mark.parametrize("index", [0, 1])
def test_a_chunk_of_another_artifact_is_none_of_this_one(index: int) -> None:
    download = rules.plan(artifact(CHUNKS))
    assert rules.accept(download, index, b"c" * 100) == (download, Chunk.CORRUPT)
    assert rules.accept(download, index, CHUNKS[1 - index]) == (download, Chunk.CORRUPT)
