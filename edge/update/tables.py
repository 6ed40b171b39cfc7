"""What was measured of the variants of a slot's last versions, on disk, so that it is measured once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import structlog

from edge.update.variants import Measured, Table
from protos.kit.files import write_durably

FILE = "variants.json"
KEPT = 4
"""Versions: the one in use, the one before, one that is tried, and one to compare with."""

log = structlog.get_logger()


class Tables:
    """The tables of one slot, in `folder`. A damaged file is as none: what was in it is measured again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._tables = _read(self._path)

    def of(self, manifest: bytes) -> Table | None:
        """Of the version with this manifest digest."""
        return next((table for table in self._tables if table.manifest == manifest.hex()), None)

    def newest(self, model: str, hardware: str) -> Table | None:
        """The newest of this model's on this hardware."""
        found = (table for table in reversed(self._tables) if (table.model, table.hardware) == (model, hardware))
        return next(found, None)

    def put(self, table: Table) -> None:
        """Keep it, durably. Raises OSError; then the former ones are still there."""
        if table in self._tables:
            return
        others = [known for known in self._tables if known.manifest != table.manifest]
        tables = [*others, table][-KEPT:]
        write_durably(self._path, json.dumps([asdict(table) for table in tables], indent=1).encode())
        self._tables = tables


def _read(path: Path) -> Sequence[Table]:
    try:
        return [
            Table(**{**content, "rows": tuple(Measured(**row) for row in content["rows"])})
            for content in json.loads(path.read_bytes())
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("what was measured of variants cannot be read", path=str(path), error=repr(error))
        return []
