"""Batches in quarantine can be tried again.

Revision ID: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "consumer_returns",
        sa.Column("consumer", sa.String(), nullable=False),
        sa.Column("stream", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "stream", "first_seq"),
        sqlite_with_rowid=False,
    )
    op.add_column("quarantine", sa.Column("skip", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
