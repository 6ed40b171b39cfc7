"""Which version a database has, and how it gets the one that this code works with.

The steps are Alembic's, in `migrations/versions`. They run inside the caller's transaction, all or none of them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

FOLDER = Path(__file__).with_name("migrations")
FIRST = "0001"
NONE = ""
"""The version of an empty database, and of one that was made before versions were counted: its tables stay."""


class WrongVersion(Exception):
    """The database is not one that this code can use; the message says why and what to do."""


def head() -> str:
    """The version that this code works with."""
    newest = _scripts().get_current_head()
    assert newest is not None
    return newest


def version(connection: Connection) -> str:
    """The database's version. Raises WrongVersion if it has none that this code knows."""
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        _compare_with_first(connection)
        return NONE
    if current not in {script.revision for script in _scripts().walk_revisions()}:
        raise WrongVersion(
            f"it has version {current}, and this Littoral knows versions up to {head()}: "
            "a newer Littoral has used it. Install that one, or restore a backup from before"
        )
    return current


def upgrade(connection: Connection) -> str:
    """Take the database to this code's version, from whichever it has; returns that. Raises WrongVersion."""
    before = version(connection)
    if before != head():
        command.upgrade(_config(connection), "head")
    return before


def is_empty(connection: Connection) -> bool:
    """Whether no Littoral has ever used the database."""
    return version(connection) == NONE and not _first_tables().keys() & set(inspect(connection).get_table_names())


def check(connection: Connection) -> None:
    """Raise WrongVersion unless the database has this code's version."""
    if (current := version(connection)) != head():
        raise WrongVersion(
            f"it has version {current or 'none'}, and this Littoral needs {head()}: stop the cloud, "
            "make a backup, and run `littoral migrate`"
        )


def _compare_with_first(connection: Connection) -> None:
    """Tables without a version must be those that Littoral made before versions were counted; some may be missing."""
    there = inspect(connection)
    for table, columns in _first_tables().items():
        if there.has_table(table) and (found := _columns(connection, table)) != columns:
            raise WrongVersion(
                f"it has no version, and is none that Littoral made before versions were counted: table {table!r} "
                f"differs in {', '.join(sorted(found ^ columns))}. Name an empty database, or restore a backup"
            )


@cache
def _first_tables() -> dict[str, set[str]]:
    """The columns of the first version's tables, as its step makes them."""
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as scratch:
            command.upgrade(_config(scratch), FIRST)
            tables = inspect(scratch).get_table_names()
            return {table: _columns(scratch, table) for table in tables if table != "alembic_version"}
    finally:
        engine.dispose()


def _columns(connection: Connection, table: str) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(table)}


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    return config


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
