"""The database: transactions that hold, many threads and processes at once, errors for people."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from cloud.foundation.database import Database, DatabaseFailed
from simulators.postgresql import Cluster, NoPostgresql, cluster

metadata = sqlalchemy.MetaData()
counters = sqlalchemy.Table(
    "test_counters",
    metadata,
    sqlalchemy.Column("name", sqlalchemy.String, primary_key=True),
    sqlalchemy.Column("value", sqlalchemy.Integer, nullable=False),
)


def created(database: Database) -> Database:
    """With a table of the test's own."""
    database.create()
    with database.transaction() as connection:
        metadata.create_all(connection)
    return database


def database_in(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'sub' / 'test.db'}")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = created(Database(database_url))
    yield database
    database.close()


def value(connection: Connection) -> int:
    return int(connection.execute(sqlalchemy.select(counters.c.value)).scalar() or 0)


def increment(database: Database) -> None:
    """Read, then write what was read plus one: loses updates unless the whole of it is one exclusive transaction."""
    with database.transaction() as connection:
        now = value(connection)
        connection.execute(counters.delete())
        connection.execute(counters.insert().values(name="n", value=now + 1))


def create_and_increment(url: str, times: int) -> None:
    database = created(Database(url))
    for _ in range(times):
        increment(database)
    database.close()


def test_what_a_transaction_wrote_is_there_after_it(database: Database) -> None:
    increment(database)
    with database.reading() as connection:
        assert value(connection) == 1


def test_an_exception_takes_back_everything_the_transaction_wrote(database: Database) -> None:
    with suppress(RuntimeError), database.transaction() as connection:
        connection.execute(counters.insert().values(name="n", value=1))
        raise RuntimeError
    with database.reading() as connection:
        assert value(connection) == 0


def test_a_transaction_that_reads_sees_one_moment(database: Database) -> None:
    with database.reading() as connection:
        before = value(connection)
        increment(database)
        assert value(connection) == before
    with database.reading() as connection:
        assert value(connection) == before + 1


def test_threads_that_read_and_then_write_lose_no_update(database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: increment(database), range(64)))
    with database.reading() as connection:
        assert value(connection) == 64


def test_processes_that_start_at_once_create_one_database_and_lose_no_update(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=create_and_increment, args=(database_url, 10)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    with closing(Database(database_url)) as database, database.reading() as connection:
        assert value(connection) == 30


def test_a_transaction_that_reads_cannot_write(database: Database) -> None:
    with suppress(DBAPIError), database.reading() as connection:
        connection.execute(counters.insert().values(name="n", value=1))
    with database.reading() as connection:
        assert value(connection) == 0


def test_who_writes_beside_others_is_not_held_up_by_a_writer_where_the_database_can(
    postgresql: Cluster,
) -> None:
    database = created(Database(postgresql.new_database()))
    with database.transaction(), database.beside() as connection:
        connection.execute(counters.insert().values(name="n", value=1))
    with database.reading() as connection:
        assert value(connection) == 1
    database.close()


def test_after_a_restart_of_the_server_the_next_transaction_works() -> None:
    try:
        with cluster(durable=False) as server:
            database = created(Database(server.new_database()))
            increment(database)
            server.kill()
            server.start()
            increment(database)
            with database.reading() as connection:
                assert value(connection) == 2
            database.close()
    except NoPostgresql as missing:
        pytest.skip(str(missing))


def test_a_server_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatabaseFailed, match="Is the server running"):
        Database(f"postgresql+psycopg://me:secret@/db?host={tmp_path}").create()


def test_the_file_is_in_wal_mode_and_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    database = database_in(tmp_path)
    database.create()
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nonsense", "not an SQLAlchemy URL"),
        ("sqlite://", "has no file"),
        ("sqlite:///:memory:", "has no file"),
        ("nosuchdb://host/name", "no driver for 'nosuchdb'"),
    ],
)
def test_a_wrong_url_is_refused_with_what_to_write_instead(url: str, complaint: str) -> None:
    with pytest.raises(DatabaseFailed, match=complaint):
        Database(url)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "sub").write_text("a file where a folder should be")
    with pytest.raises(DatabaseFailed, match=r"test\.db cannot be opened.*may write to"):
        database_in(tmp_path).create()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "test.db").write_text("this is no database at all, but a longer text " * 100)
    with pytest.raises(DatabaseFailed, match="not a database"):
        database_in(tmp_path).create()
