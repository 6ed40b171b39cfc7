"""The tables as they were before versions were counted.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table that is missing: a database made before versions were counted has some, or all."""
    # On PostgreSQL each day's partition of the results has this key for itself.
    key = [] if op.get_context().dialect.name == "postgresql" else [sa.PrimaryKeyConstraint("stream", "seq")]
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("blob", sa.LargeBinary(length=32), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        if_not_exists=True,
    )
    op.create_table(
        "assignments",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("slot", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "slot", "generation"),
        if_not_exists=True,
    )
    op.create_table(
        "blob_pieces",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("piece", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "piece"),
        if_not_exists=True,
    )
    op.create_table(
        "desired",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("slot", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("published", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("device", "slot"),
        if_not_exists=True,
    )
    op.create_index("desired_by_age", "desired", ["issued_ms"], if_not_exists=True)
    op.create_index("desired_by_rollout", "desired", ["rollout"], if_not_exists=True)
    op.create_table(
        "devices",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("labelled_ms", sa.BigInteger(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("reported_ms", sa.BigInteger(), nullable=False),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        if_not_exists=True,
    )
    op.create_index("devices_by_labelling", "devices", ["labelled_ms"], if_not_exists=True)
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        if_not_exists=True,
    )
    op.create_table(
        "metadata_files",
        sa.Column("role", sa.String(length=63), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("role", "version"),
        if_not_exists=True,
    )
    op.create_table(
        "model_versions",
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("manifest_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version"),
        sa.UniqueConstraint("manifest_digest"),
        if_not_exists=True,
    )
    op.create_table(
        "receipts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("slot", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.Column("golden_outputs", sa.LargeBinary(), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "slot", "generation", "outcome"),
        if_not_exists=True,
    )
    op.create_table(
        "result_sources",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "source"),
        if_not_exists=True,
    )
    op.create_table(
        "result_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("manifest"),
        if_not_exists=True,
    )
    op.create_table(
        "results",
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("frame", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.REAL(), nullable=False),
        sa.Column("latency_us", sa.BigInteger(), nullable=False),
        sa.Column("captured_us", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        *key,
        postgresql_partition_by="RANGE (received_ms)",
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_index("results_by_frame", "results", ["source", "frame"], if_not_exists=True)
    op.create_table(
        "rollouts",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("slot", sa.String(), nullable=False),
        sa.Column("selector", sa.JSON(), nullable=False),
        sa.Column("gates", sa.JSON(), nullable=False),
        sa.Column("waves", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
        if_not_exists=True,
    )
    op.create_index("rollouts_by_state", "rollouts", ["state"], if_not_exists=True)
    op.create_table(
        "streams",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("set_aside", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("expired", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "epoch"),
        postgresql_with={"fillfactor": 50},
        if_not_exists=True,
    )
    op.create_table(
        "device_alarms",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("texts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device"),
        if_not_exists=True,
    )
    op.create_table(
        "device_slots",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("slot", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("running", sa.LargeBinary(), nullable=False),
        sa.Column("running_model", sa.String(), nullable=False),
        sa.Column("running_version", sa.BigInteger(), nullable=False),
        sa.Column("chunks_total", sa.BigInteger(), nullable=False),
        sa.Column("chunks_present", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device", "slot"),
        if_not_exists=True,
    )
    op.create_table(
        "device_telemetry",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("measured_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("interval_s", sa.Float(), nullable=False),
        sa.Column("inferences", sa.BigInteger(), nullable=False),
        sa.Column("inference_errors", sa.BigInteger(), nullable=False),
        sa.Column("latency_p50_us", sa.BigInteger(), nullable=False),
        sa.Column("latency_p95_us", sa.BigInteger(), nullable=False),
        sa.Column("outbox_rows", sa.BigInteger(), nullable=False),
        sa.Column("outbox_bytes", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("resident_bytes", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device"),
        if_not_exists=True,
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("first_seq", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["stream"],
            ["streams.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("stream", "first_seq"),
        if_not_exists=True,
    )
    op.create_table(
        "rollout_members",
        sa.Column("rollout", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("waiting_ms", sa.BigInteger(), nullable=False),
        sa.Column("succeeded_ms", sa.BigInteger(), nullable=False),
        sa.Column("former_generation", sa.BigInteger(), nullable=False),
        sa.Column("former_model", sa.String(), nullable=False),
        sa.Column("former_version", sa.BigInteger(), nullable=False),
        sa.Column("former_manifest", sa.LargeBinary(), nullable=False),
        sa.Column("former_rollout", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rollout"],
            ["rollouts.number"],
        ),
        sa.PrimaryKeyConstraint("rollout", "device"),
        if_not_exists=True,
    )
    op.create_index("rollout_members_by_state", "rollout_members", ["state", "rollout"], if_not_exists=True)
    op.create_table(
        "truths",
        sa.Column("source", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("frame", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source"],
            ["result_sources.id"],
        ),
        sa.PrimaryKeyConstraint("source", "frame"),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
