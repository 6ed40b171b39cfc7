"""Where frames' bytes are kept: in folders, or in the database for replicas that share none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from cloud.foundation.database import Database, Transaction
from cloud.foundation.settings import CloudSettings
from cloud.registry.blobs import Blobs
from cloud.samples.partials import Partials
from cloud.samples.store_frames import DatabaseFrames, DatabaseParts


class Frames(Protocol):
    """Whole frames, each named by its SHA-256. within: a transaction that is open, for those that live in it."""

    def put(self, data: bytes) -> bytes:
        """Store `data` durably and return its digest. Storing it again mends what is missing or damaged."""

    def read(self, digest: bytes) -> bytes:
        """Its bytes, unchecked. Raises UnknownArtifact."""

    def size(self, digest: bytes, within: Transaction | None = None, /) -> int | None:
        """How many bytes there are; None: it is not there."""

    def remove(self, digest: bytes, within: Transaction, /) -> None:
        """Remove it, if it is there."""

    def older_than(self, unix_s: float) -> Iterator[bytes]:
        """Digests of frames that were written before."""

    def remove_unfinished(self, unix_s: float) -> None:
        """Remove what writes that were killed before then have left."""


class Parts(Protocol):
    """Frames that have come in part. Several processes may write one at once: they write the same bytes."""

    def length(self, device: str, digest: bytes) -> int:
        """Bytes that have come."""

    def write(self, device: str, digest: bytes, offset: int, data: bytes) -> int:
        """Put `data` at `offset`, which must not be beyond the end; returns the new length."""

    def read(self, device: str, digest: bytes) -> bytes:
        """All bytes that have come."""

    def drop(self, device: str, digest: bytes) -> None:
        """Forget what has come."""

    def drop_older_than(self, unix_s: float) -> None:
        """Forget what nothing has been added to since."""


class FolderFrames:
    """Frames as files."""

    def __init__(self, folder: Path) -> None:
        self._blobs = Blobs(folder)
        self.put = self._blobs.put
        self.older_than = self._blobs.older_than
        self.remove_unfinished = self._blobs.remove_unfinished

    def read(self, digest: bytes) -> bytes:
        """As `Frames`."""
        return self._blobs.read(digest, 0, -1)

    def size(self, digest: bytes, _within: Transaction | None = None, /) -> int | None:
        """As `Frames`."""
        return self._blobs.size(digest)

    def remove(self, digest: bytes, _within: Transaction, /) -> None:
        """As `Frames`."""
        self._blobs.remove(digest)


def kept(settings: CloudSettings, database: Database) -> tuple[Frames, Parts]:
    """Where these settings have them."""
    if settings.artifacts == "database":
        return DatabaseFrames(database), DatabaseParts(database)
    return FolderFrames(settings.samples / "frames"), Partials(settings.samples / "partials")
