"""The newest of what many devices said, one row a device: SQL for the tables that have the device as their key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from cloud.fleet.store import devices

_INSERTS: Mapping[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
AT_ONCE = 5_000


def put(connection: Connection, table: Table, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write rows over the devices' former ones. What a device says that has not reported is dropped."""
    left = iter(rows)
    while some := list(islice(left, AT_ONCE)):
        known = connection.execute(select(devices.c.id).where(devices.c.id.in_(some))).scalars()
        write(connection, table, [{"device": device, **rows[device]} for device in known])


def write(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows over the former ones of the same devices, whether or not those have reported."""
    if not rows:
        return
    adding = _INSERTS[connection.dialect.name](table)
    new = {name: adding.excluded[name] for name in rows[0] if name != "device"}
    connection.execute(adding.on_conflict_do_update(index_elements=["device"], set_=new), rows)
