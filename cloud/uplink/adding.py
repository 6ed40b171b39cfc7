"""How numbers are added to rows that may be there already, in one statement for many rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import Connection, Table

from cloud.uplink.inserting import insert

_ARRAYS = {"INTEGER": "int[]", "BIGINT": "bigint[]", "DOUBLE": "float8[]"}


def add(connection: Connection, table: Table, columns: Mapping[str, NDArray[Any]]) -> None:
    """Add the rows; where a row with the same key is there, add the other columns' numbers to its own.

    Rows are locked in the order in which they are given.
    """
    names = [column.name for column in table.c]
    lists = [columns[name].tolist() for name in names]
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_unnest(table), tuple(lists))
    else:
        insert(connection, table, names, list(zip(*lists, strict=True)), _or_add(table))


@cache
def _unnest(table: Table) -> str:
    arrays = ", ".join(f"%s::{_ARRAYS[str(column.type)]}" for column in table.c)
    names = ", ".join(table.c.keys())
    return f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}) {_or_add(table)}"  # noqa: S608 - our own names


@cache
def _or_add(table: Table) -> str:
    keys = ", ".join(column.name for column in table.primary_key)
    numbers = [column.name for column in table.c if not column.primary_key]
    sums = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in numbers)
    return f"ON CONFLICT ({keys}) DO UPDATE SET {sums}"
