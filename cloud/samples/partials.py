"""Frames that have come in part: a file for each device and frame, its length being how far it has come.

Nothing here is promised to anybody: what is lost is sent again, and only whole frames with the right digest count.
"""

from __future__ import annotations

import os
from pathlib import Path

_SUFFIX = ".part"


class Partials:
    """Files under `folder`. Several processes may write one at once: they write the same bytes to the same places."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def length(self, device: str, digest: bytes) -> int:
        """Bytes that have come."""
        try:
            return self._path(device, digest).stat().st_size
        except FileNotFoundError:
            return 0

    def write(self, device: str, digest: bytes, offset: int, data: bytes) -> int:
        """Put `data` at `offset`, which must not be beyond the end; returns the new length."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path(device, digest), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            while data:
                written = os.pwrite(descriptor, data, offset)
                offset, data = offset + written, data[written:]
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def read(self, device: str, digest: bytes) -> bytes:
        """All bytes that have come."""
        try:
            return self._path(device, digest).read_bytes()
        except FileNotFoundError:
            return b""

    def drop(self, device: str, digest: bytes) -> None:
        """Forget what has come."""
        self._path(device, digest).unlink(missing_ok=True)

    def drop_older_than(self, unix_s: float) -> None:
        """Forget what nothing has been added to since."""
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path.stat().st_mtime < unix_s:
                path.unlink(missing_ok=True)

    def _path(self, device: str, digest: bytes) -> Path:
        return self._folder / f"{device}-{digest.hex()}{_SUFFIX}"
