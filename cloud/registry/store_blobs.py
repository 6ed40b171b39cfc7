"""Artifacts' bytes in the database, for replicas that share no folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from sqlalchemy import Column, Connection, Integer, LargeBinary, Table, delete, select

from cloud.foundation.database import Database, metadata
from cloud.registry.entities import UnknownArtifact

PIECE_BYTES = 1024 * 1024
"""What one row holds, so that a chunk is read without its whole artifact."""

pieces = Table(
    "blob_pieces",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("piece", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)


class DatabaseBlobs:
    """As `Blobs`, in rows of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, data: bytes) -> bytes:
        """Store `data` and return its digest. Storing it again mends what is missing or damaged."""
        digest = hashlib.sha256(data).digest()
        with self._database.transaction() as connection:
            found = b"".join(_read(connection, digest, 0, None))
            if found != data or not data:
                connection.execute(delete(pieces).where(pieces.c.digest == digest))
                connection.execute(pieces.insert(), list(_rows(digest, data)))
        return digest

    def read(self, digest: bytes, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` (-1: all that follow), unchecked. Raises UnknownArtifact."""
        first = offset // PIECE_BYTES
        last = None if size < 0 else (offset + max(size, 1) - 1) // PIECE_BYTES
        with self._database.reading() as connection:
            found = _read(connection, digest, first, last)
            if not found and not _read(connection, digest, 0, 0):
                raise UnknownArtifact(f"the database has no artifact's file {digest.hex()}")
        start = offset - first * PIECE_BYTES
        return b"".join(found)[start : None if size < 0 else start + size]


def _read(connection: Connection, digest: bytes, first: int, last: int | None) -> list[bytes]:
    chosen = select(pieces.c.data).where(pieces.c.digest == digest, pieces.c.piece >= first).order_by(pieces.c.piece)
    if last is not None:
        chosen = chosen.where(pieces.c.piece <= last)
    return [bytes(data) for data in connection.execute(chosen).scalars()]


def _rows(digest: bytes, data: bytes) -> Iterator[dict[str, object]]:
    """At least one, so that nothing at all is stored, too."""
    for piece, start in enumerate(range(0, max(len(data), 1), PIECE_BYTES)):
        yield {"digest": digest, "piece": piece, "data": data[start : start + PIECE_BYTES]}
