"""Drift and shadows.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "challenges",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("slot", sa.String(length=63), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("stopped_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("comparison", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device", "slot"),
    )
    op.create_table(
        "drift",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("slot", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.Column("began_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("alarm", sa.String(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("labels_psi", sa.Float(), nullable=False),
        sa.Column("labels_p", sa.Float(), nullable=False),
        sa.Column("confidences_psi", sa.Float(), nullable=False),
        sa.Column("confidences_p", sa.Float(), nullable=False),
        sa.Column("input_shift", sa.Float(), nullable=False),
        sa.Column("looked_at", sa.BigInteger(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device", "slot"),
    )
