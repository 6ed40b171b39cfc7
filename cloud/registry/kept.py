"""Where artifacts' bytes are kept: in a folder, or in the database."""

from __future__ import annotations

from typing import Protocol

from cloud.foundation.database import Database
from cloud.foundation.settings import CloudSettings
from cloud.registry.blobs import Blobs
from cloud.registry.store_blobs import DatabaseBlobs


class Kept(Protocol):
    """Where artifacts' bytes are, each named by its SHA-256; any number of processes may use it at once."""

    def put(self, data: bytes) -> bytes:
        """Store `data` durably and return its digest. Storing it again mends what is missing or damaged."""

    def read(self, digest: bytes, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` (-1: all that follow), unchecked. Raises UnknownArtifact."""


def kept(settings: CloudSettings, database: Database) -> Kept:
    """Where these settings have them."""
    return DatabaseBlobs(database) if settings.artifacts == "database" else Blobs(settings.blobs)
