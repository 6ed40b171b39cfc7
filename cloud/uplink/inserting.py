"""How rows are handed to the database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table

Row = tuple[object, ...]


def insert(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row], end: str = "") -> None:
    """Hand rows straight to the driver: a dictionary for each, as `insert()` wants them, costs more than inserting."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    marks = ", ".join([mark] * len(names))
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks}) {end}"  # noqa: S608 - our own names
    connection.exec_driver_sql(sql, rows)


def insert_new(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert those of the rows that break no unique key."""
    insert(connection, table, names, rows, "ON CONFLICT DO NOTHING")
