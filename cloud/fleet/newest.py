"""The newest of what many devices said, one row a device: SQL for the tables that have the device as their key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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


def known(connection: Connection, some: Iterable[str]) -> list[str]:
    """Those of the devices that have reported, by id; until the transaction ends nobody forgets one of them."""
    found: list[str] = []
    left = iter(sorted(some))
    while part := list(islice(left, AT_ONCE)):
        wanted = select(devices.c.id).where(devices.c.id.in_(part)).order_by(devices.c.id)
        found += connection.execute(wanted.with_for_update(read=True, key_share=True)).scalars()
    return found


def measured(connection: Connection, table: Table, some: Iterable[str]) -> dict[str, tuple[int, int]]:
    """When the devices' rows were measured and received; until the transaction ends nobody else writes these rows."""
    found: dict[str, tuple[int, int]] = {}
    t, left = table.c, iter(sorted(some))
    while part := list(islice(left, AT_ONCE)):
        wanted = select(t.device, t.measured_ms, t.received_ms).where(t.device.in_(part)).order_by(t.device)
        for device, *times in connection.execute(wanted.with_for_update(key_share=True)):
            found[device] = (times[0], times[1])
    return found


def write(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows over the former ones of the same devices."""
    if not rows:
        return
    adding = _INSERTS[connection.dialect.name](table)
    new = {name: adding.excluded[name] for name in rows[0] if name != "device"}
    connection.execute(adding.on_conflict_do_update(index_elements=["device"], set_=new), rows)
