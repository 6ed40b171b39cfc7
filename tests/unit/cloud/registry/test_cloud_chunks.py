"""A file becomes chunks, and the chunks become the file again."""

from __future__ import annotations

import hashlib
import os
from itertools import pairwise

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cloud.registry.chunks import offsets, plan
from protos.topics import MAX_CHUNK_BYTES
from protos.v1.manifest_pb2 import COMPRESSION_NONE, COMPRESSION_ZSTD

repetitive = st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=64), st.integers(1, 20_000))
noise = st.builds(os.urandom, st.integers(1, 3 * MAX_CHUNK_BYTES))
files = st.one_of(repetitive, noise, st.binary(min_size=1, max_size=100))


@given(files)
def test_the_chunks_in_order_are_the_file_as_it_travels(data: bytes) -> None:
    artifact, travelling = plan(data)
    pieces = [travelling[start:end] for start, end in pairwise(offsets(artifact.chunks))]
    assert b"".join(pieces) == travelling
    assert [hashlib.sha256(piece).digest() for piece in pieces] == [chunk.digest for chunk in artifact.chunks]


@given(files)
def test_what_travels_unpacks_to_the_file(data: bytes) -> None:
    artifact, travelling = plan(data)
    zstd = artifact.compression == COMPRESSION_ZSTD
    assert (zstandard.ZstdDecompressor().decompress(travelling) if zstd else travelling) == data
    assert (artifact.digest, artifact.size) == (hashlib.sha256(data).digest(), len(data))


@given(files)
def test_no_chunk_is_empty_or_over_the_limit(data: bytes) -> None:
    assert all(0 < chunk.size <= MAX_CHUNK_BYTES for chunk in plan(data)[0].chunks)


@given(files)
def test_the_same_file_is_always_cut_alike(data: bytes) -> None:
    assert plan(data) == plan(data)


def test_what_does_not_shrink_travels_as_it_is() -> None:
    data = os.urandom(1000)
    artifact, travelling = plan(data)
    assert artifact.compression == COMPRESSION_NONE
    assert travelling == data


def test_a_file_of_exactly_two_chunks_has_two() -> None:
    assert len(plan(os.urandom(2 * MAX_CHUNK_BYTES))[0].chunks) == 2
