"""Results know their slot.

Revision ID: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Let a version be named once for each slot. What results there are say none: they are of the default one."""
    if op.get_bind().dialect.name == "sqlite":
        _remake_versions()
        return
    op.add_column("result_versions", sa.Column("slot", sa.String(), server_default="default", nullable=False))
    op.drop_constraint("result_versions_manifest_key", "result_versions")
    op.create_unique_constraint(None, "result_versions", ["manifest", "slot"])


def _remake_versions() -> None:
    """SQLite cannot drop a table's key: the table is made anew, with its rows."""
    op.rename_table("result_versions", "former_versions")
    op.create_table(
        "result_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.String(), server_default="default", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("manifest", "slot"),
    )
    names = "id, manifest, model, version"
    op.execute(f"INSERT INTO result_versions ({names}) SELECT {names} FROM former_versions")
    op.drop_table("former_versions")
