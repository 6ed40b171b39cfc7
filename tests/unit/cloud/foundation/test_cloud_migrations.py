"""Every database gets from where it is to the tables that the code has, or says why it does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from click.testing import CliRunner
from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy.exc import IntegrityError

import cloud.app  # noqa: F401 - with it every room's tables are known
from cloud.cli import littoral
from cloud.foundation import migrate
from cloud.foundation.database import Database, DatabaseFailed, metadata
from cloud.foundation.migrations.versions.v0002_account import account_for_all
from cloud.uplink import store
from cloud.uplink.entities import KnownVersion, Opened, ReceivedBatch
from cloud.uplink.rules import days_to_make
from cloud.uplink.service import Ingest
from protos.kit.columns import Results, encode
from protos.kit.kinds import Kind

NOW_MS = 1_700_000_000_000
ADVICE = "the steps do not make the tables that the code has. `python scripts/revision.py WHAT` writes a step with:\n"

SQLITE_SCHEMA = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND name NOT LIKE 'sqlite_%'"
POSTGRESQL_SCHEMA = (
    # Columns, what tables are made of, keys and indexes, each as PostgreSQL itself would write it.
    """SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')""",
    """SELECT relname, relkind, reloptions, CASE WHEN relkind = 'p' THEN pg_get_partkeydef(oid) END FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace""",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = current_schema()::regnamespace""",
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()",
)


_ADDED = re.compile(r", (?=[a-z_]+ [A-Z])")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def first(connection: Connection) -> None:
    """What Littoral made before versions were counted."""
    command.upgrade(migrate._config(connection), migrate.FIRST)
    connection.exec_driver_sql("DROP TABLE alembic_version")


def made(url: str, make: Callable[[Connection], object]) -> Database:
    """A database made by someone else than Littoral of today."""
    engine = create_engine(url)
    with engine.begin() as connection:
        make(connection)
    engine.dispose()
    return Database(url)


def schema(database: Database) -> list[str]:
    """Everything that the database says of its tables, in words that do not depend on its name."""
    with database.reading() as connection:
        if connection.dialect.name == "sqlite":
            found = [(name, *sorted(_lines(sql))) for name, sql in connection.exec_driver_sql(SQLITE_SCHEMA)]
        else:
            found = [tuple(row) for query in POSTGRESQL_SCHEMA for row in connection.exec_driver_sql(query)]
            here = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
            found = [tuple(str(cell).replace(here, "HERE") for cell in row) for row in found]
    return sorted(str(row) for row in found if "alembic_version" not in str(row))


def _lines(sql: str | None) -> list[str]:
    """The parts of a statement; whether a key is said with its column or after all columns is the same.

    A column that was added stands on the line of the one before it.
    """
    return [part.strip().rstrip(",") for line in (sql or "").splitlines() for part in _ADDED.split(line)]


def tables(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(inspect(connection).get_table_names())


def test_the_steps_make_exactly_the_tables_that_the_code_has(new_database: Callable[[], str]) -> None:
    by_steps, by_code = Database(new_database()), made(new_database(), metadata.create_all)
    by_steps.create()
    with by_steps.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        missing = produce_migrations(context, metadata).upgrade_ops
        assert missing is not None
        assert missing.is_empty(), ADVICE + render_python_code(missing)
    assert schema(by_steps) == schema(by_code)
    by_steps.close()
    by_code.close()


def test_a_database_from_before_versions_were_counted_is_taken_over_with_its_rows(database_url: str) -> None:
    def with_a_stream(connection: Connection) -> None:
        first(connection)
        connection.exec_driver_sql("INSERT INTO streams (device, epoch, watermark) VALUES ('edge-1', 7, 3)")

    database = made(database_url, with_a_stream)
    assert database.migrate() == ("", migrate.head())
    database.create()
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT device, watermark FROM streams").one() == ("edge-1", 3)
    assert {"result_minutes", "model_versions"} <= tables(database)
    database.close()


def test_streams_from_before_carry_results_and_keep_what_refers_to_them(database_url: str) -> None:
    def with_books(connection: Connection) -> None:
        command.upgrade(migrate._config(connection), "0010")
        connection.exec_driver_sql("INSERT INTO streams (id, device, epoch, watermark) VALUES (3, 'edge-1', 7, 5)")
        connection.exec_driver_sql("INSERT INTO stream_books VALUES (3, 5, 0, 0, 0, 5, 1)")

    database = made(database_url, with_books)
    database.migrate()
    with database.transaction() as connection:
        assert store.find_stream(connection, "edge-1", Kind.RESULTS, 7) == Opened(3, 5)
        assert connection.exec_driver_sql("SELECT stream FROM stream_books").scalar_one() == 3
        store.begin_stream(connection, "edge-1", Kind.EVENTS, 7)
        with pytest.raises(IntegrityError):
            connection.exec_driver_sql("DELETE FROM streams WHERE id = 3")
    database.close()


def test_results_from_before_are_found_by_time_and_accounted_for(database_url: str) -> None:
    def with_a_result(connection: Connection) -> None:
        first(connection)
        store.make_days(connection, days_to_make(NOW_MS))
        names = [store.source_id(connection, "edge-1", "camera")]
        connection.exec_driver_sql(f"INSERT INTO results VALUES (1, 1, {names[0]}, 1, 1, 7, 0.5, 70, 5, {NOW_MS})")

    database = made(database_url, with_a_result)
    database.migrate()
    with database.reading() as connection:
        minutes = connection.exec_driver_sql("SELECT minute, results, latency_03, confidence_5 FROM result_minutes")
        assert minutes.all() == [(NOW_MS // 60_000, 1, 1, 1)]
        labels = connection.exec_driver_sql("SELECT minute, label, results FROM result_minute_labels")
        assert labels.all() == [(NOW_MS // 60_000, 7, 1)]
        for table in tables(database):
            if table.startswith("results"):
                indexed = [index["column_names"] for index in inspect(connection).get_indexes(table)]
                assert ["received_ms"] in indexed
    database.close()


def test_a_database_that_only_training_has_used_gets_the_rest(database_url: str) -> None:
    def only_models(connection: Connection) -> None:
        metadata.create_all(connection, tables=[metadata.tables["artifacts"], metadata.tables["model_versions"]])

    database = made(database_url, only_models)
    database.migrate()
    assert set(metadata.tables) <= tables(database)
    database.close()


def test_a_database_of_another_make_is_refused_and_left_alone(database_url: str) -> None:
    database = made(database_url, lambda connection: connection.exec_driver_sql("CREATE TABLE streams (id INTEGER)"))
    for attempt in (database.create, database.migrate):
        with pytest.raises(DatabaseFailed, match="'streams' differs in device, epoch"):
            attempt()
    assert tables(database) == {"streams"}
    database.close()


def test_a_database_of_a_newer_littoral_is_refused(database: Database) -> None:
    database.create()
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for attempt in (database.create, database.migrate):
        with pytest.raises(DatabaseFailed, match=r"version 9999.*newer Littoral"):
            attempt()


def test_a_server_of_an_older_littoral_waits_for_the_command_and_a_file_does_not(database_url: str) -> None:
    database = made(database_url, lambda connection: command.upgrade(migrate._config(connection), migrate.FIRST))
    if database_url.startswith("sqlite"):
        database.create()
    else:
        with pytest.raises(DatabaseFailed, match=r"version 0001.*needs.*littoral migrate"):
            database.create()
        assert "result_minutes" not in tables(database)
        assert database.migrate() == ("0001", migrate.head())
    database.create()
    assert "result_minutes" in tables(database)
    database.close()


def test_a_step_that_fails_leaves_the_database_as_it_was(database_url: str) -> None:
    def in_the_way(connection: Connection) -> None:
        first(connection)
        connection.exec_driver_sql("CREATE TABLE consumer_positions (id INTEGER)")

    database = made(database_url, in_the_way)
    with pytest.raises(DatabaseFailed, match="consumer_positions"):
        database.migrate()
    assert not {"result_minutes", "alembic_version"} & tables(database)
    database.close()


def test_the_account_of_results_from_before_is_what_it_would_have_been(database: Database) -> None:
    database.create()
    ingest = Ingest(database, lambda _: KnownVersion("digits", 1, classes=10))
    latencies = [0, 1, 15, 16, 17, 1000, 2**23 - 1, 2**23, 2**32 - 1]
    results = encode(_results(latencies))
    opened = ingest.open("edge-1", 1)
    for number in range(3):
        first_seq = 1 + number * len(latencies)
        batch = ReceivedBatch(opened.stream, "edge-1", first_seq, len(latencies), results, first_seq - 1)
        ingest.commit([batch], NOW_MS + number * 50_000)
    kept = account(database)
    with database.transaction() as connection:
        for table in kept:
            connection.exec_driver_sql(f"DELETE FROM {table}")
        account_for_all(connection)
    assert account(database) == kept
    assert all(kept.values())


def account(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.reading() as connection:
        return {
            table: sorted(tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}"))
            for table in ("result_minutes", "result_minute_labels")
        }


def _results(latencies: list[int]) -> Results:
    n = len(latencies)
    return Results(
        model="digits",
        version=1,
        manifest=bytes(32),
        source="camera",
        frame=np.arange(1, 1 + n, dtype=np.uint64),
        captured_us=np.zeros(n, np.int64),
        label=np.arange(n, dtype=np.uint16) % 3,
        confidence=np.linspace(-0.5, 1.5, n, dtype=np.float32),
        latency_us=np.array(latencies, np.uint32),
    )


def test_the_command_says_what_it_did(database_url: str) -> None:
    made(database_url, first).close()
    for said in ("was without", "as before"):
        shown = CliRunner().invoke(littoral, ["migrate", "--database", database_url])
        assert shown.exit_code == 0, shown.output
        assert said in shown.output.replace("\n", " ")


def test_the_command_names_a_database_that_it_cannot_take_over(database_url: str) -> None:
    made(database_url, lambda connection: connection.exec_driver_sql("CREATE TABLE streams (id INTEGER)")).close()
    shown = CliRunner().invoke(littoral, ["migrate", "--database", database_url])
    assert shown.exit_code == 1
    assert "differs in" in shown.output
