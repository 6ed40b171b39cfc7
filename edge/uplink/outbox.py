"""The durable outbox: results, or another kind, wait here, in SQLite, until the cloud has committed them.

A batch is one row, its payload the bytes that the stream will send. The rows, the sources' watermarks and the books
move in one transaction that is on disk before `append` returns, so a source that was told its watermark never needs to
remember the frames below it.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import structlog

from edge.uplink import rules
from edge.uplink.entities import Depth, Ledger, NewBatch, OutboxFailed, Size, StoredBatch
from protos.kit.files import sync_folder

LOCK_WAIT_S = 1.0
DELETED_AT_ONCE = 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL, next_seq INTEGER NOT NULL, acknowledged INTEGER NOT NULL, dropped INTEGER NOT NULL,
    before INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS batches (
    last_seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, payload BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS sources (source TEXT PRIMARY KEY, watermark INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

log = structlog.get_logger()


class Outbox:
    """The outbox in one database file. Safe to use from several threads; one process has it open at a time.

    begun_anew: why it was, without what it held before; empty: it was not.
    """

    begun_anew = ""

    def __init__(self, path: Path, database: sqlite3.Connection, ledger: Ledger, max_bytes: int) -> None:
        self._path = path
        self._database = database
        self._ledger = ledger
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    @classmethod
    def open(cls, path: Path, max_bytes: int) -> Outbox:
        """Open or create the outbox; it holds at most `max_bytes` of payload.

        A damaged file is set aside beside its place, and a new epoch begins. Raises OutboxFailed if another process has
        it open, or the folder cannot be written.
        """
        begun_anew = ""
        try:
            try:
                database, ledger = _load(path)
            except _Damaged as damaged:
                begun_anew = f"it was damaged: {damaged}"
                log.error("outbox damaged, begun anew without what it held", path=str(path), damage=str(damaged))
                _set_aside(path)
                database, ledger = _load(path)
        except (sqlite3.Error, _Damaged, OSError) as error:
            raise _failure(path, error) from error
        outbox = cls(path, database, ledger, max_bytes)
        outbox.begun_anew = begun_anew
        return outbox

    @classmethod
    def in_memory(cls, name: str, max_bytes: int) -> Outbox:
        """One that is gone with this process, for what is not worth that the agent does not start without its file."""
        database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        return cls(Path(name), database, _prepare(database), max_bytes)

    @property
    def epoch(self) -> int:
        """Random, 63 bits: names this life of the outbox."""
        return self._ledger.epoch

    @property
    def ledger(self) -> Ledger:
        """The books as of the last commit."""
        return self._ledger

    def depth(self) -> Depth:
        """How full the outbox is."""
        ledger = self._ledger
        return Depth(ledger.rows, ledger.bytes, ledger.dropped)

    def source_watermark(self, source: str) -> int:
        """The last frame of `source` that is settled for good; 0: none."""
        return self._ledger.watermarks.get(source, 0)

    def append(self, batches: Sequence[NewBatch]) -> None:
        """Make all `batches` durable in one commit, or none: then OutboxFailed says why.

        Those at or below their source's watermark were appended before: skipped. Over the bound the oldest are dropped.
        """

        def change(ledger: Ledger) -> Ledger:
            ledger, stored = rules.number(ledger, batches)
            self._database.executemany(
                "INSERT INTO batches VALUES (?, ?, ?)",
                [(batch.last_seq, batch.count, batch.payload) for batch in stored],
            )
            ledger, through = rules.drop_oldest(ledger, self._sizes(), self._max_bytes)
            self._database.execute("DELETE FROM batches WHERE last_seq <= ?", (through,))
            return ledger

        self._commit(change, synchronous="FULL")
        for listener in tuple(self._listeners):
            listener()

    def after(self, seq: int, limit: int) -> list[StoredBatch]:
        """At most `limit` batches that have results above `seq`, in order."""
        with self._lock:
            try:
                rows = self._database.execute(
                    "SELECT last_seq, count, payload FROM batches WHERE last_seq > ? ORDER BY last_seq LIMIT ?",
                    (seq, limit),
                ).fetchall()
            except sqlite3.Error as error:
                raise _failure(self._path, error) from error
        return [StoredBatch(last - count + 1, count, payload) for last, count, payload in rows]

    def acknowledge(self, watermark: int) -> None:
        """Delete the batches that lie wholly at or below `watermark`: the cloud has committed them.

        After days without the cloud they can be many: they go in slices, so that appends come in between.
        """
        rules.acknowledge(self._ledger, watermark, gone=())  # what never was is refused before anything is deleted
        more = True

        def change(ledger: Ledger) -> Ledger:
            nonlocal more
            going = list(islice(self._sizes(watermark), DELETED_AT_ONCE))
            more = len(going) == DELETED_AT_ONCE
            through = going[-1].last_seq if more else watermark
            ledger = rules.acknowledge(ledger, through, going)
            self._database.execute("DELETE FROM batches WHERE last_seq <= ?", (through,))
            return ledger

        # A power cut may bring deleted batches back; the server's watermark then deletes them again. So no sync is due.
        while more:
            self._commit(change, synchronous="NORMAL")

    def begin_epoch(self) -> None:
        """Begin a new life that keeps the batches and the sources' watermarks."""
        self._commit(lambda ledger: rules.begin_epoch(ledger, _new_epoch()), synchronous="FULL")

    def on_append(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each append, in the thread that appended. Returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def close(self) -> None:
        """Close the file; what is asked afterwards fails."""
        with self._lock:
            self._database.close()

    def _commit(self, change: Callable[[Ledger], Ledger], synchronous: str) -> None:
        with self._lock:
            try:
                self._database.execute(f"PRAGMA synchronous = {synchronous}")
                self._database.execute("BEGIN IMMEDIATE")
                ledger = change(self._ledger)
                _write_books(self._database, self._ledger, ledger)
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                raise _failure(self._path, error) from error
            finally:
                # Whatever went wrong, SQLite's own roll-back included: the next transaction begins on clean ground.
                _roll_back(self._database)
            self._ledger = ledger

    def _sizes(self, through: int = 2**63 - 1) -> Iterator[Size]:
        # The length of a payload is in the row's header: its bytes are not read.
        rows = self._database.execute(
            "SELECT last_seq, count, length(payload) FROM batches WHERE last_seq <= ? ORDER BY last_seq", (through,)
        )
        return (Size(*row) for row in rows)


class _Damaged(Exception):
    """The file is no database, or not a whole one."""


def _load(path: Path) -> tuple[sqlite3.Connection, Ledger]:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        ledger = _prepare(database)
    except sqlite3.Error as error:
        database.close()
        if _is_damage(error):
            raise _Damaged(str(error)) from error
        raise
    except _Damaged:
        database.close()
        raise
    sync_folder(path.parent)
    return database, ledger


def _prepare(database: sqlite3.Connection) -> Ledger:
    # Exclusive: the books are kept in memory, so a second process that writes must fail and not be believed.
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    complaints = [row[0] for row in database.execute("PRAGMA quick_check(1)")]
    if complaints != ["ok"]:
        raise _Damaged(complaints[0])
    database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    if "before" not in [row[1] for row in database.execute("PRAGMA table_info(ledger)")]:
        database.execute("ALTER TABLE ledger ADD COLUMN before INTEGER NOT NULL DEFAULT 0")  # an older agent's file
    database.execute("INSERT OR IGNORE INTO ledger VALUES (1, ?, 1, 0, 0, 0)", (_new_epoch(),))
    return _read_books(database)


def _read_books(database: sqlite3.Connection) -> Ledger:
    epoch, next_seq, acknowledged, dropped, before = database.execute(
        "SELECT epoch, next_seq, acknowledged, dropped, before FROM ledger"
    ).fetchone()
    held: tuple[int, int] = database.execute(
        "SELECT coalesce(sum(count), 0), coalesce(sum(length(payload)), 0) FROM batches"
    ).fetchone()
    watermarks = dict(database.execute("SELECT source, watermark FROM sources"))
    return Ledger(epoch, next_seq, acknowledged, dropped, *held, watermarks, before)


def _write_books(database: sqlite3.Connection, old: Ledger, new: Ledger) -> None:
    database.execute(
        "UPDATE ledger SET epoch = ?, next_seq = ?, acknowledged = ?, dropped = ?, before = ?",
        (new.epoch, new.next_seq, new.acknowledged, new.dropped, new.before),
    )
    moved = new.watermarks.items() - old.watermarks.items()
    database.executemany("INSERT OR REPLACE INTO sources VALUES (?, ?)", moved)


def _roll_back(database: sqlite3.Connection) -> None:
    try:
        if database.in_transaction:
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        log.error("outbox transaction not rolled back", error=str(error))


def _new_epoch() -> int:
    return 1 + secrets.randbelow(2**63 - 1)


def _is_damage(error: sqlite3.Error) -> bool:
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _set_aside(path: Path) -> None:
    # One damaged copy is kept, so that a dying disk is not filled with them. The log of the last writes goes first:
    # left beside a new database it would be taken for that one's.
    for suffix in ("-wal", "-shm", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.replace(path.with_name(f"{path.name}.damaged{suffix}"))
    sync_folder(path.parent)


_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: make room on it",
    sqlite3.SQLITE_BUSY: "another process has it open: end the other agent of this folder",
    sqlite3.SQLITE_READONLY: "it cannot be written: mend the rights of the file or the mount of its disk",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: mend the rights of its folder",
}


def _failure(path: Path, error: Exception) -> OutboxFailed:
    advice = _ADVICE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "what was held before is still held")
    return OutboxFailed(f"outbox {path}: {error} ({advice})")
