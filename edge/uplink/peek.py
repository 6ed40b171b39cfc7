"""How full an outbox is whose agent does not run, read without the right to write."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from edge.uplink.entities import Depth

LOCK_WAIT_S = 0.1
"""An agent that runs has its files for itself for as long as it runs: to wait longer is in vain."""

_QUESTION = """
SELECT (SELECT coalesce(sum(count), 0) FROM batches), (SELECT coalesce(sum(length(payload)), 0) FROM batches), dropped
FROM ledger
"""


def depth(path: Path) -> Depth | None:
    """None if it cannot be told: the file is in use, damaged, or not to be opened."""
    if not path.exists():
        return Depth(0, 0, 0)
    try:
        return _asked(path, "mode=ro")
    except sqlite3.Error:
        # A log of writes needs an index beside it, which a read-only disk cannot take; without a log none is needed.
        return None if _has_log(path) else _of_unchanging(path)


def _of_unchanging(path: Path) -> Depth | None:
    try:
        return _asked(path, "immutable=1")
    except sqlite3.Error:
        return None


def _asked(path: Path, how: str) -> Depth:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{how}", timeout=LOCK_WAIT_S, uri=True)) as database:
        return Depth(*database.execute(_QUESTION).fetchone())


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0
