"""A folder of files named by the SHA-256 of their content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from cloud.registry.entities import UnknownArtifact
from protos.kit.files import sync_folder, write_durably

_DIGEST = re.compile("[0-9a-f]{64}")


class Blobs:
    """Content-addressed files under `folder`; any number of processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> bytes:
        """Store `data` durably and return its digest. Storing it again mends a file that is missing or damaged."""
        digest = hashlib.sha256(data).digest()
        path = self._path(digest)
        if not path.exists() or path.read_bytes() != data:
            self._make(path.parent)
            write_durably(path, data)
        return digest

    def read(self, digest: bytes, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` (-1: all that follow), unchecked. Raises UnknownArtifact."""
        try:
            with self._path(digest).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError as error:
            raise UnknownArtifact(f"there is no {self._path(digest)}") from error

    def size(self, digest: bytes) -> int | None:
        """How many bytes there are under this name; None: it is not there."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def remove(self, digest: bytes) -> None:
        """Remove a file, if it is there."""
        self._path(digest).unlink(missing_ok=True)

    def older_than(self, unix_s: float) -> Iterator[bytes]:
        """Digests of files that were written before."""
        for path in self._folder.glob("??/*"):
            if _DIGEST.fullmatch(path.name) and path.stat().st_mtime < unix_s:
                yield bytes.fromhex(path.name)

    def remove_unfinished(self, unix_s: float) -> None:
        """Remove what writes that were killed before then have left."""
        for path in self._folder.glob("??/.*.unfinished"):
            if path.stat().st_mtime < unix_s:
                path.unlink(missing_ok=True)

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name

    def _make(self, folder: Path) -> None:
        """Make a folder whose entry survives a power cut like the file that will be in it."""
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self._folder)
        sync_folder(self._folder.parent)
