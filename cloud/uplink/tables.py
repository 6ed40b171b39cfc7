"""The uplink's tables: streams and their watermarks, results, their account by minute, quarantine, truths.

A result row holds numbers only. Devices with their sources, and model versions with the slot in which they answered,
are named once in tables of their own; a row refers to them by integer, and its key (stream, seq) is what makes a second
copy impossible.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)

from cloud.foundation.database import metadata
from cloud.uplink.aggregates import CONFIDENCES, LATENCIES
from protos.kit.kinds import Kind
from protos.topics import DEFAULT_SLOT

streams = Table(
    "streams",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String, nullable=False),
    Column("kind", SmallInteger, nullable=False, server_default=text("0")),  # entities.Kind
    Column("epoch", BigInteger, nullable=False),
    Column("watermark", BigInteger, nullable=False, server_default=text("0")),
    Column("skipped", BigInteger, nullable=False, server_default=text("0")),
    Column("set_aside", BigInteger, nullable=False, server_default=text("0")),
    Column("expired", BigInteger, nullable=False, server_default=text("0")),  # rows dropped by retention
    UniqueConstraint("device", "kind", "epoch"),
    postgresql_with={"fillfactor": 50},  # each commit moves watermarks: the new row finds room beside the old
)

OF_RESULTS = streams.c.kind == Kind.RESULTS
"""Which streams results come over: whoever speaks of results asks of no others."""

sources = Table(
    "result_sources",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String, nullable=False),
    Column("source", String, nullable=False),
    UniqueConstraint("device", "source"),
)

versions = Table(
    "result_versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("manifest", LargeBinary, nullable=False),
    Column("model", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("slot", String, nullable=False, server_default=DEFAULT_SLOT),
    UniqueConstraint("manifest", "slot"),
)

books = Table(
    "stream_books",  # what the device said last of its end of the stream
    metadata,
    Column("stream", ForeignKey(streams.c.id), primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("before", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("waiting", BigInteger, nullable=False),
    Column("acknowledged", BigInteger, nullable=False),
    Column("said_ms", BigInteger, nullable=False),
    postgresql_with={"fillfactor": 50},
)

# No foreign keys here: ids come from rows of the same transaction or an earlier one, which are never deleted, and
# checking three references for each of millions of rows is a cost one can see. On PostgreSQL a unique key must hold the
# column by which a table is partitioned: there each day's partition has the key (stream, seq) for itself.
results = Table(
    "results",
    metadata,
    Column("stream", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("source", Integer, nullable=False),
    Column("frame", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("label", Integer, nullable=False),
    Column("confidence", REAL, nullable=False),
    Column("latency_us", BigInteger, nullable=False),
    Column("captured_us", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("stream", "seq").ddl_if(dialect="sqlite"),
    Index("results_by_frame", "source", "frame"),
    Index("results_by_time", "received_ms"),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (received_ms)",
)

# The account of results by minute of their receipt, in UTC. Numbers are added while the minute lasts: the changed row
# finds room beside the old one.
result_minutes = Table(
    "result_minutes",
    metadata,
    Column("minute", Integer, primary_key=True, autoincrement=False),  # minutes since 1970
    Column("source", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("results", BigInteger, nullable=False),
    Column("latency_us", BigInteger, nullable=False),  # sums
    Column("confidence", Double, nullable=False),
    *(Column(name, Integer, nullable=False) for name in (*LATENCIES, *CONFIDENCES)),  # how many are in each bin
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 70},
)

result_minute_labels = Table(
    "result_minute_labels",
    metadata,
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("source", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("label", Integer, primary_key=True, autoincrement=False),
    Column("results", BigInteger, nullable=False),
    Column("confidence", Double, nullable=False),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 70},
)

truths = Table(
    "truths",
    metadata,
    Column("source", Integer, ForeignKey(sources.c.id), primary_key=True, autoincrement=False),
    Column("frame", BigInteger, primary_key=True, autoincrement=False),
    Column("label", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Who reads all results, and how far each has come in each stream; a stream that is not named here is at 0.
consumers = Table(
    "result_consumers",
    metadata,
    Column("name", String, primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
)

positions = Table(
    "consumer_positions",
    metadata,
    Column("consumer", String, primary_key=True),
    Column("stream", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("acknowledged_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# What was stored behind the backs of consumers: they may have passed these numbers when there was nothing.
returns = Table(
    "consumer_returns",
    metadata,
    Column("consumer", String, primary_key=True),
    Column("stream", Integer, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),  # acknowledged up to here
    Column("last_seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("stream", Integer, ForeignKey(streams.c.id), nullable=False),
    Column("first_seq", String, nullable=False),  # as text: a broken one may be any unsigned 64-bit number
    Column("count", BigInteger, nullable=False),
    Column("reason", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("skip", BigInteger, nullable=False, server_default=text("0")),  # rows before first_seq that it has as well
    UniqueConstraint("stream", "first_seq"),
)
