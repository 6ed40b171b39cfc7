"""Health of slots.

Revision ID: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Change the tables."""
    op.add_column("device_health", sa.Column("slots", sa.JSON(), server_default="[]", nullable=False))
