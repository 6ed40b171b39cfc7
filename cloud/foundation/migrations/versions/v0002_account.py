"""Results are accounted for by minute and found by time; consumers read them all.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection

revision = "0002"
down_revision = "0001"

LATENCIES = [f"latency_{i:02}" for i in range(21)]
CONFIDENCES = [f"confidence_{i}" for i in range(10)]


def upgrade() -> None:
    """Make the tables, and account for the results that there are: it reads them all, once."""
    op.create_index("results_by_time", "results", ["received_ms"])
    op.create_table(
        "result_minutes",
        *(sa.Column(name, sa.Integer, autoincrement=False, nullable=False) for name in ("minute", "source", "version")),
        sa.Column("results", sa.BigInteger, nullable=False),
        sa.Column("latency_us", sa.BigInteger, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in (*LATENCIES, *CONFIDENCES)),
        sa.PrimaryKeyConstraint("minute", "source", "version"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
    keys = ("minute", "source", "version", "label")
    op.create_table(
        "result_minute_labels",
        *(sa.Column(name, sa.Integer, autoincrement=False, nullable=False) for name in keys),
        sa.Column("results", sa.BigInteger, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint(*keys),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "result_consumers",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "consumer_positions",
        sa.Column("consumer", sa.String, nullable=False),
        sa.Column("stream", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("acknowledged_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("consumer", "stream"),
        sqlite_with_rowid=False,
    )
    account_for_all(op.get_bind())


def account_for_all(connection: Connection) -> None:
    """Fill the empty account from the results."""
    edges = [0, *(2**bits for bits in range(4, 24))]
    latencies = [
        f"latency_us >= {low}" + ("" if low == edges[-1] else f" AND latency_us < {high}")
        for low, high in zip(edges, [*edges[1:], 0], strict=True)
    ]
    confidences = [f"sure * 10 >= {i} AND sure * 10 < {i + 1}" for i in range(9)] + ["sure * 10 >= 9"]
    bins = ", ".join(f"sum(CASE WHEN {one} THEN 1 ELSE 0 END)" for one in (*latencies, *confidences))
    rows = (
        "(SELECT received_ms / 60000 AS minute, source, version, label, latency_us, CASE WHEN confidence < 0 THEN 0 "
        "WHEN confidence > 1 THEN 1 ELSE CAST(confidence AS DOUBLE PRECISION) END AS sure FROM results) AS every"
    )
    keys = "minute, source, version"
    sums = {
        "result_minutes": (keys, f"sum(latency_us), sum(sure), {bins}"),
        "result_minute_labels": (f"{keys}, label", "sum(sure)"),
    }
    for table, (key, summed) in sums.items():
        connection.exec_driver_sql(f"INSERT INTO {table} SELECT {key}, count(*), {summed} FROM {rows} GROUP BY {key}")
