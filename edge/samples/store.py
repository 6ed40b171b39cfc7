"""Where samples wait: one SQLite file. Frames and what is spent of the budget are on the disk together, or not at all.

What was kept is paid for, so when the file is full nothing more is kept, rather than something thrown away.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from edge.samples import rules
from edge.samples.entities import Books, Kept, NewSample, SamplesFailed
from protos.kit.files import sync_folder

LOCK_WAIT_S = 1.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    id INTEGER PRIMARY KEY AUTOINCREMENT, about BLOB NOT NULL, pixels BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS spent (
    day INTEGER NOT NULL, policy TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (day, policy)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS policies (one INTEGER PRIMARY KEY CHECK (one = 1), message BLOB NOT NULL) STRICT;
"""

T = TypeVar("T")
log = structlog.get_logger()


class SampleStore:
    """The samples in one file. Safe to use from several threads; one process has it open at a time.

    damage: why it was begun anew without those that waited; empty: it was not.
    """

    damage = ""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self._path = path
        self._database = database
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> SampleStore:
        """Open or create it. A damaged file is set aside beside its place, and begun anew. Raises SamplesFailed."""
        try:
            try:
                return cls(path, _load(path))
            except sqlite3.DatabaseError as damage:
                if not _is_damage(damage):
                    raise
                log.error("samples damaged, begun anew without them", path=str(path), damage=str(damage))
                _set_aside(path)
                store = cls(path, _load(path))
                store.damage = str(damage)
                return store
        except (sqlite3.Error, OSError) as error:
            raise SamplesFailed(f"samples {path}: {error}") from error

    def books(self) -> Books:
        """How much waits, and what was spent."""

        def read() -> Books:
            (waiting,) = self._database.execute("SELECT coalesce(sum(length(pixels)), 0) FROM samples").fetchone()
            spent = {(day, policy): size for day, policy, size in self._database.execute("SELECT * FROM spent")}
            return Books(waiting, spent)

        return self._do(read)

    def add(self, samples: Sequence[NewSample], policy: str, day: int) -> None:
        """Keep samples, and take them from that day's budget of a policy: all or, when this raises, none."""
        size = sum(len(sample.pixels) for sample in samples)

        def change() -> None:
            rows = [(sample.about, sample.pixels) for sample in samples]
            self._database.executemany("INSERT INTO samples (about, pixels) VALUES (?, ?)", rows)
            self._database.execute(
                "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
                (day, policy, size),
            )
            days = [row[0] for row in self._database.execute("SELECT DISTINCT day FROM spent")]
            gone = [(old,) for old in rules.forgotten_days(days, day)]
            self._database.executemany("DELETE FROM spent WHERE day = ?", gone)

        self._change(change)

    def after(self, sample: int, limit: int) -> list[Kept]:
        """At most `limit` samples behind this one, the oldest first."""
        wanted = "SELECT id, length(pixels), about FROM samples WHERE id > ? ORDER BY id LIMIT ?"
        return self._do(lambda: [Kept(*row) for row in self._database.execute(wanted, (sample, limit))])

    def piece(self, sample: int, offset: int, size: int) -> bytes:
        """`size` bytes of a sample from `offset`."""

        def read() -> bytes:
            with self._database.blobopen("samples", "pixels", sample, readonly=True) as blob:
                blob.seek(offset)
                return blob.read(size)

        return self._do(read)

    def remove(self, sample: int) -> int:
        """Forget a sample; returns its size, 0: it is not there."""

        def change() -> int:
            wanted = "DELETE FROM samples WHERE id = ? RETURNING length(pixels)"
            found = self._database.execute(wanted, (sample,)).fetchone()
            return int(found[0]) if found else 0

        return self._change(change)

    def policies(self) -> bytes:
        """The SamplePolicies that were last said, encoded; empty: none ever."""

        def read() -> bytes:
            found = self._database.execute("SELECT message FROM policies").fetchone()
            return found[0] if found else b""

        return self._do(read)

    def follow(self, message: bytes) -> None:
        """Remember the policies, so that they hold after a restart without the cloud."""
        self._change(lambda: self._database.execute("INSERT OR REPLACE INTO policies VALUES (1, ?)", (message,)))

    def close(self) -> None:
        """Close the file; what is asked afterwards fails."""
        with self._lock:
            self._database.close()

    def _change(self, work: Callable[[], T]) -> T:
        def change() -> T:
            if self._database.in_transaction:  # what failed before could not even be rolled back
                self._database.rollback()
            with self._database:  # commits, or rolls back
                self._database.execute("BEGIN IMMEDIATE")
                return work()

        return self._do(change)

    def _do(self, work: Callable[[], T]) -> T:
        with self._lock:
            try:
                return work()
            except sqlite3.Error as error:
                raise SamplesFailed(f"samples {self._path}: {error}") from error


def _load(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    except sqlite3.Error:
        database.close()
        raise
    sync_folder(path.parent)
    return database


def _is_damage(error: sqlite3.Error) -> bool:
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _set_aside(path: Path) -> None:
    # The log of the last writes goes first: left beside a new database it would be taken for that one's.
    for suffix in ("-wal", "-shm", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.replace(path.with_name(f"{path.name}.damaged{suffix}"))
    sync_folder(path.parent)
