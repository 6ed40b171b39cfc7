"""The one database of the cloud, and what a transaction on it means.

A transaction that may write takes the write lock at its first statement, so that what it reads is still true when it
writes, and no two of them can fail each other half way. SQLite keeps its promise to the disk: WAL, synchronous=FULL.
PostgreSQL has no such lock, so an advisory one is ours; who locks rows instead may write beside others.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

import sqlalchemy
from sqlalchemy import Connection, Engine, MetaData, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from cloud.foundation import migrate

metadata = MetaData()
"""Every store's tables."""

Transaction: TypeAlias = Connection
"""What services hand from one store to another, without looking into it."""

BUSY_S = 30
IDLE_S = 60
"""A process that stops in the middle of a transaction on PostgreSQL holds the others up for no longer."""

CONNECT_S = 10
POOL_SIZE = 16
_BEGIN = "littoral_begin"
_WRITE_LOCK = 0x6C6974746F72616C
"""Number of the advisory lock that writing transactions take on PostgreSQL: our own among all users of a database."""


class DatabaseFailed(Exception):
    """The database cannot be used at all; the message says which, why, and what to do."""


class DatabaseSilent(DatabaseFailed):
    """A server does not let anyone in now; it may do so later."""


class Database:
    """Connections to the database at an SQLAlchemy URL, for all threads of a process. Raises DatabaseFailed."""

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._engine = _engine(self._url)
        self._writing, self._beside, self._reading = _kinds(self._engine, sqlite=self._sqlite)

    def create(self) -> None:
        """Make what is missing: folder, file, tables. Any number of processes may do it at once.

        A file of an older Littoral is taken to this version; a server's database is not, without being asked to.
        """
        with self._opening() as connection:
            if self._sqlite or migrate.is_empty(connection):
                migrate.upgrade(connection)
            else:
                migrate.check(connection)

    def migrate(self) -> tuple[str, str]:
        """Take the database to this code's version; returns the one before (empty: none) and that."""
        with self._opening() as connection:
            return migrate.upgrade(connection), migrate.head()

    @contextmanager
    def _opening(self) -> Iterator[Connection]:
        """The first transaction, on whatever there is. Raises DatabaseFailed."""
        try:
            if self._sqlite:
                _create_folder(self._url)
                self._use_wal()
            with self.transaction() as connection:
                yield connection
        except migrate.WrongVersion as error:
            raise DatabaseFailed(f"database {self} cannot be used: {error}") from error
        except (DatabaseError, OSError) as error:
            cause = error.orig if isinstance(error, DatabaseError) else error
            kind = DatabaseSilent if isinstance(error, OperationalError) and not self._sqlite else DatabaseFailed
            raise kind(
                f"database {self} cannot be opened: {cause}. "
                + ("Is its folder one that this user may write to?" if self._sqlite else "Is the server running?")
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that may write: committed at the end, rolled back on any exception. Keep it short."""
        with self._writing.begin() as connection:
            yield connection

    @contextmanager
    def beside(self) -> Iterator[Connection]:
        """A transaction that may write beside others where the database can: it locks the rows that it decides on."""
        with self._beside.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads: one consistent moment; it waits for no writer, and none waits for it."""
        with self._reading.connect() as connection:
            yield connection

    def complaint(self) -> str:
        """Why it does not answer now, in a line; empty if it does."""
        try:
            with self.reading() as connection:
                connection.exec_driver_sql("SELECT 1")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return f"{type(error).__name__}: {error}".partition("\n")[0]
        return ""

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    @property
    def _sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def _use_wal(self) -> None:
        """Switch the file to WAL, which stays with it. SQLite does not wait for other processes here, so we do."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                with self._engine.connect() as connection:
                    _outside_transaction(connection, "PRAGMA journal_mode=WAL")
            except OperationalError as error:
                if "locked" not in str(error.orig) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseFailed(
            f"database {url!r} is not an SQLAlchemy URL: write sqlite:////absolute/path/file.db "
            "or postgresql+psycopg://user:password@host/name"
        ) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise DatabaseFailed(f"database {url!r} has no file: threads and processes need one to share")
    return parsed


def _engine(url: URL) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = {"timeout": BUSY_S} if sqlite else {"connect_timeout": CONNECT_S}
    try:
        # A server may have been restarted since a connection was last used; a file has not.
        engine = sqlalchemy.create_engine(url, pool_size=POOL_SIZE, connect_args=arguments, pool_pre_ping=not sqlite)
    except (NoSuchModuleError, ModuleNotFoundError, ArgumentError) as error:
        raise DatabaseFailed(
            f"database {url.render_as_string()}: there is no driver for {url.drivername!r} here ({error}). "
            "Install it, or use sqlite:////absolute/path/file.db"
        ) from error
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgresql)
        event.listen(engine, "begin", _begin_postgresql)
    return engine


def _kinds(engine: Engine, *, sqlite: bool) -> tuple[Engine, Engine, Engine]:
    """The engine as transactions need it that write alone, write beside others, and read."""
    if sqlite:
        writing = engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        return writing, writing, engine
    writing = engine.execution_options(**{_BEGIN: f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})"})
    return writing, engine, engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    driver = cast("sqlite3.Connection", connection)
    driver.isolation_level = None  # the driver begins nothing by itself: _begin_sqlite does
    driver.execute("PRAGMA synchronous=FULL")
    driver.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _prepare_postgresql(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = '{BUSY_S}s'")
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_S}s'")
    cursor.close()
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    if lock := connection.get_execution_options().get(_BEGIN):
        connection.exec_driver_sql(lock)


def _outside_transaction(connection: Connection, statement: str) -> None:
    """Run what SQLite refuses inside a transaction, on the driver's own connection."""
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    try:
        driver.execute(statement)
    except sqlite3.OperationalError as error:
        raise OperationalError(statement, None, error) from error


def _create_folder(url: URL) -> None:
    Path(str(url.database)).absolute().parent.mkdir(parents=True, exist_ok=True)
