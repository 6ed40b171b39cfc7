"""Devices that are nodes of a cluster, as its control plane sees them: SQL of a table of its own, a row for each node.

A node may be known before its device reports, and after it was forgotten: no foreign key ties them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Connection, Row, String, Table, select

from cloud.fleet import newest
from cloud.fleet.entities import Device, Node, NodeState
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
    return _nodes(_rows(connection, None))


def get(connection: Connection, device: str) -> Node | None:
    """One node; None: it was never told of."""
    return _nodes(_rows(connection, [device])).get(device)


def of(connection: Connection, found: Sequence[Device]) -> dict[str, Node]:
    """The nodes that these devices are, by device."""
    return _nodes(_rows(connection, None if len(found) > 1 else [device.id for device in found]))


def put(connection: Connection, told: Sequence[Node], now_ms: int) -> None:
    """Write nodes over what was told of them before."""
    former = _rows(connection, None if len(told) > 1 else [node.device for node in told])
    newest.write(connection, nodes, [_values(node, former.get(node.device), now_ms) for node in told])


def closed(connection: Connection) -> frozenset[str]:
    """Devices whose node takes no new model now."""
    wanted = select(nodes).where(nodes.c.cordoned)
    return frozenset(row.device for row in connection.execute(wanted) if _node(row).is_closed)


def _rows(connection: Connection, only: Collection[str] | None) -> Mapping[str, Row[Any]]:
    wanted = select(nodes) if only is None else select(nodes).where(nodes.c.device.in_(only))
    return {row.device: row for row in connection.execute(wanted)}


def _nodes(rows: Mapping[str, Row[Any]]) -> dict[str, Node]:
    return {device: _node(row) for device, row in rows.items()}


def _node(row: Row[Any]) -> Node:
    return Node(row.device, row.labels, NodeState(row.state), row.cordoned)


def _values(node: Node, former: Row[Any] | None, now_ms: int) -> dict[str, object]:
    labels = dict(node.labels)
    return {
        "device": node.device,
        "labels": labels,
        "labelled_ms": former.labelled_ms if former and former.labels == labels else now_ms,
        "state": node.state.value,
        "cordoned": node.cordoned,
    }
