"""Devices that are nodes of a cluster, as its control plane sees them: SQL of a table of its own, a row for each node.

A node may be known before its device reports, and after it was forgotten: no foreign key ties them.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import JSON, BigInteger, Boolean, Column, Connection, Row, String, Table, insert, select, update

from cloud.fleet.entities import Node, NodeState
from cloud.foundation.database import metadata

nodes = Table(
    "device_nodes",
    metadata,
    Column("device", String, primary_key=True),
    Column("labels", JSON, nullable=False),
    Column("labelled_ms", BigInteger, nullable=False),  # when the labels became what they are
    Column("state", String, nullable=False),
    Column("cordoned", Boolean, nullable=False),
)


def known(connection: Connection) -> dict[str, Node]:
    """Every node that was ever told of, by its device."""
    return {row.device: _node(row) for row in connection.execute(select(nodes))}


def get(connection: Connection, device: str) -> Node | None:
    """One node; None: it was never told of."""
    row = connection.execute(select(nodes).where(nodes.c.device == device)).one_or_none()
    return _node(row) if row else None


def put(connection: Connection, told: Iterable[Node], now_ms: int) -> None:
    """Write nodes over what was told of them before."""
    for node in told:
        there = nodes.c.device == node.device
        former = connection.execute(select(nodes).where(there)).one_or_none()
        values = _values(node)
        if former is None:
            connection.execute(insert(nodes).values(values | {"labelled_ms": now_ms}))
        else:
            relabelled = {} if former.labels == values["labels"] else {"labelled_ms": now_ms}
            connection.execute(update(nodes).where(there).values(values | relabelled))


def closed(connection: Connection) -> frozenset[str]:
    """Devices whose node takes no new model now."""
    wanted = select(nodes).where(nodes.c.cordoned)
    return frozenset(row.device for row in connection.execute(wanted) if _node(row).is_closed)


def _node(row: Row[tuple[object, ...]]) -> Node:
    return Node(row.device, row.labels, NodeState(row.state), row.cordoned)


def _values(node: Node) -> dict[str, object]:
    return {
        "device": node.device,
        "labels": dict(node.labels),
        "state": node.state.value,
        "cordoned": node.cordoned,
    }
