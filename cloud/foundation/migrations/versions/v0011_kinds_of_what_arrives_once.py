"""Kinds of what arrives once.

Revision ID: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables of the new kinds; the streams that there are carry results."""
    op.create_table(
        "device_telemetry_history",
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("measured_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "telemetry_by_device", "device_telemetry_history", ["device", "measured_ms", "stream", "seq"], unique=False
    )
    op.create_index("telemetry_by_receipt", "device_telemetry_history", ["received_ms"], unique=False)
    op.create_table(
        "events",
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("happened_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=False),
        sa.Column("slot", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_index("events_by_device", "events", ["device", "received_ms", "stream", "seq"], unique=False)
    op.create_index("events_by_time", "events", ["received_ms", "stream", "seq"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        _remake_streams()
        return
    op.add_column("streams", sa.Column("kind", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.drop_constraint("streams_device_epoch_key", "streams")
    op.create_unique_constraint(None, "streams", ["device", "kind", "epoch"])


def _remake_streams() -> None:
    """SQLite cannot drop a table's key: the table is made anew with its rows; what refers to them waits for that."""
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TABLE former_streams AS SELECT * FROM streams")
    op.drop_table("streams")
    op.create_table(
        "streams",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("set_aside", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("expired", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "kind", "epoch"),
    )
    names = "id, device, epoch, watermark, skipped, set_aside, expired"
    op.execute(f"INSERT INTO streams ({names}) SELECT {names} FROM former_streams")
    op.drop_table("former_streams")
