"""Batches on the line, smaller where that pays: zstd at its fastest, for whoever says that it reads it.

Measured on batches of results (`python -m benchmarks compression`): the bytes become 1.2 to 2 times fewer, from some
hundred rows on for less than a tenth of a microsecond a row, a thousandth of what an inference takes.
"""

from __future__ import annotations

import zstandard

FEWEST_BYTES = 256
"""Below, the frame around it costs what is saved."""

WORTH = 0.9
"""Of its size; what stays larger is sent as it is, so that nobody unpacks for nothing."""

_packer = zstandard.ZstdCompressor(level=1)
_unpacker = zstandard.ZstdDecompressor()


class NotPacked(ValueError):
    """Bytes that cannot be unpacked within the limit; the message says why."""


def pack(payload: bytes) -> bytes | None:
    """The payload packed; None if that does not pay. Not for two threads at once."""
    if len(payload) < FEWEST_BYTES:
        return None
    packed = _packer.compress(payload)
    return packed if len(packed) <= WORTH * len(payload) else None


def unpack(packed: bytes, limit: int) -> bytes:
    """The payload, if it has at most `limit` bytes: more is never written to memory. Not for two threads at once.

    Raises NotPacked.
    """
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= limit:
            raise NotPacked(f"packed from {size} bytes, {limit} may be" if size >= 0 else "packed from unknown size")
        return _unpacker.decompress(packed)
    except zstandard.ZstdError as error:
        raise NotPacked(f"not zstd: {error}") from error
