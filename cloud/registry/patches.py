"""Short ways to a file from one that devices hold. Pure; why these two: docs/decisions/0007-delta-updates.md."""

from __future__ import annotations

import hashlib

import numpy as np
import zstandard

from cloud.registry.chunks import cut
from protos.topics import MAX_DICTIONARY_BYTES
from protos.v1.manifest_pb2 import PATCH_KIND_DICTIONARY, PATCH_KIND_DIFFERENCE, Patch, PatchKind

LEVEL = 19
LARGE_LEVEL = 12
"""zstd's levels: the higher makes a difference about a tenth smaller, and takes too long for files over 8 MiB."""


def difference(base: bytes, data: bytes) -> bytes:
    """One zstd frame of `data` - `base`, byte by byte modulo 256; beyond its end `base` is 0.

    Small when values stay in their places and change by little, as weights do when training goes on.
    """
    changes = np.frombuffer(data, np.uint8).copy()
    both = min(len(base), len(data))
    changes[:both] -= np.frombuffer(base, np.uint8, both)
    level = LEVEL if len(data) <= MAX_DICTIONARY_BYTES else LARGE_LEVEL
    return zstandard.ZstdCompressor(level=level).compress(changes.data)


def by_dictionary(base: bytes, data: bytes) -> bytes:
    """One zstd frame of `data` in which what `base` holds too, wherever, is only pointed at. Both at most 8 MiB.

    Small when whole parts stay as they are but move, as they do when a layer gets larger.
    """
    window = max(
        zstandard.WINDOWLOG_MIN, (len(data) - 1).bit_length()
    )  # all of the base stays in reach until the last byte
    parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, window_log=window, enable_ldm=True)
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(data)


def shortest(base: bytes, data: bytes) -> tuple[Patch, bytes]:
    """The smaller of the two kinds of patch from `base` to `data`, and its bytes."""
    kinds = {PATCH_KIND_DIFFERENCE: difference(base, data)}
    if max(len(base), len(data)) <= MAX_DICTIONARY_BYTES:
        kinds[PATCH_KIND_DICTIONARY] = by_dictionary(base, data)
    kind = min(kinds, key=lambda kind: len(kinds[kind]))
    return _patch(base, kind, kinds[kind]), kinds[kind]


def _patch(base: bytes, kind: PatchKind, travelling: bytes) -> Patch:
    return Patch(
        base=hashlib.sha256(base).digest(),
        digest=hashlib.sha256(travelling).digest(),
        kind=kind,
        chunks=cut(travelling),
    )
