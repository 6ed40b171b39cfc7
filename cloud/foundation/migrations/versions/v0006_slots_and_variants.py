"""Slots and variants.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "device_slot_variants",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("slot", sa.String(), nullable=False),
        sa.Column("hardware", sa.String(), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.Column("threads", sa.BigInteger(), nullable=False),
        sa.Column("variants", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device", "slot"),
    )
