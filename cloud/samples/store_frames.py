"""Frames' bytes in the database: whole ones, and what has come of others."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
    and_,
    delete,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from cloud.foundation.database import Database, metadata
from cloud.registry.entities import UnknownArtifact

frames = Table(
    "sample_frames",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("written_s", Float, nullable=False, index=True),
    Column("data", LargeBinary, nullable=False),
)

parts = Table(
    "sample_parts",
    metadata,
    Column("device", String, primary_key=True),
    Column("digest", LargeBinary(32), primary_key=True),
    Column("start", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("written_s", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
)


class DatabaseFrames:
    """As `Frames`, a row each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, data: bytes) -> bytes:
        """Store `data` and return its digest."""
        digest = hashlib.sha256(data).digest()
        with self._database.transaction() as connection:
            self.remove(digest, connection)
            connection.execute(frames.insert().values(digest=digest, written_s=time.time(), data=data))
        return digest

    def read(self, digest: bytes) -> bytes:
        """Its bytes, unchecked. Raises UnknownArtifact."""
        with self._database.reading() as connection:
            data = connection.execute(select(frames.c.data).where(frames.c.digest == digest)).scalar()
        if data is None:
            raise UnknownArtifact(f"the database has no sample's frame {digest.hex()}")
        return bytes(data)

    def size(self, digest: bytes, within: Connection | None = None, /) -> int | None:
        """How many bytes there are; None: it is not there."""
        if within is None:
            with self._database.reading() as connection:
                return self.size(digest, connection)
        found: int | None = within.execute(select(func.length(frames.c.data)).where(frames.c.digest == digest)).scalar()
        return found

    def remove(self, digest: bytes, within: Connection, /) -> None:
        """Remove it, if it is there."""
        within.execute(delete(frames).where(frames.c.digest == digest))

    def older_than(self, unix_s: float) -> Iterator[bytes]:
        """Digests of frames that were written before."""
        with self._database.reading() as connection:
            for digest in connection.execute(select(frames.c.digest).where(frames.c.written_s < unix_s)).scalars():
                yield bytes(digest)

    def remove_unfinished(self, unix_s: float) -> None:
        """A transaction leaves nothing unfinished."""


class DatabaseParts:
    """As `Parts`, a row for each piece that came."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def length(self, device: str, digest: bytes) -> int:
        """Bytes that have come."""
        with self._database.reading() as connection:
            return _length(connection, device, digest)

    def write(self, device: str, digest: bytes, offset: int, data: bytes) -> int:
        """Put `data` at `offset`, which must not be beyond the end; returns the new length."""
        row = {"device": device, "digest": digest, "start": offset, "size": len(data)}
        with self._database.beside() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            wanted = dialect.insert(parts).values(**row, written_s=time.time(), data=data)
            new = {name: wanted.excluded[name] for name in ("size", "written_s", "data")}
            connection.execute(
                wanted.on_conflict_do_update(
                    index_elements=["device", "digest", "start"], set_=new, where=wanted.excluded.size > parts.c.size
                )
            )
            return _length(connection, device, digest)

    def read(self, device: str, digest: bytes) -> bytes:
        """All bytes that have come."""
        whole = bytearray()
        with self._database.reading() as connection:
            chosen = select(parts.c.start, parts.c.data).where(_of(device, digest)).order_by(parts.c.start)
            for start, data in connection.execute(chosen):
                whole[start : start + len(data)] = data
        return bytes(whole)

    def drop(self, device: str, digest: bytes) -> None:
        """Forget what has come."""
        with self._database.beside() as connection:
            connection.execute(delete(parts).where(_of(device, digest)))

    def drop_older_than(self, unix_s: float) -> None:
        """Forget what nothing has been added to since."""
        newest = select(parts.c.device, parts.c.digest).group_by(parts.c.device, parts.c.digest)
        with self._database.reading() as connection:
            old = connection.execute(newest.having(func.max(parts.c.written_s) < unix_s)).all()
        for device, digest in old:
            self.drop(device, bytes(digest))


def _of(device: str, digest: bytes) -> ColumnElement[bool]:
    return and_(parts.c.device == device, parts.c.digest == digest)


def _length(connection: Connection, device: str, digest: bytes) -> int:
    end = select(func.max(parts.c.start + parts.c.size)).where(_of(device, digest))
    return int(connection.execute(end).scalar() or 0)
