"""The uplink's SQL: streams and their watermarks, results, quarantine, truths. The same on SQLite and PostgreSQL.

A result row holds numbers only. Devices with their sources, and model versions, are named once in tables of their own;
a row refers to them by integer, and its key (stream, seq) is what makes a second copy impossible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    case,
    exists,
    func,
    select,
    text,
    update,
)

from cloud.foundation.database import metadata
from cloud.uplink.entities import Counts, Opened, Quarantined, ReceivedBatch, StreamState, VersionSummary
from protos.kit.columns import Results

Row = tuple[object, ...]

streams = Table(
    "streams",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("watermark", BigInteger, nullable=False, server_default=text("0")),
    Column("skipped", BigInteger, nullable=False, server_default=text("0")),
    UniqueConstraint("device", "epoch"),
)

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
    Column("manifest", LargeBinary, nullable=False, unique=True),
    Column("model", String, nullable=False),
    Column("version", BigInteger, nullable=False),
)

# No foreign keys here: ids come from rows of the same transaction or an earlier one, which are never deleted, and
# checking three references for each of millions of rows is a cost one can see.
results = Table(
    "results",
    metadata,
    Column("stream", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Integer, nullable=False),
    Column("frame", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("label", Integer, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("latency_us", BigInteger, nullable=False),
    Column("captured_us", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index("results_by_frame", "source", "frame"),
    sqlite_with_rowid=False,
)

truths = Table(
    "truths",
    metadata,
    Column("source", Integer, ForeignKey(sources.c.id), primary_key=True, autoincrement=False),
    Column("frame", BigInteger, primary_key=True, autoincrement=False),
    Column("label", Integer, nullable=False),
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
    UniqueConstraint("stream", "first_seq"),
)


@dataclass
class Names:
    """Integer names already looked up. Only what a committed transaction has named may be remembered: else `forget`."""

    _sources: dict[tuple[str, str], int] = field(default_factory=dict)
    _versions: dict[bytes, int] = field(default_factory=dict)

    def source(self, connection: Connection, device: str, source: str) -> int:
        """The integer for a device's source, named now if it is new."""
        found = self._sources.get((device, source))
        if found is None:
            found = self._sources[device, source] = source_id(connection, device, source)
        return found

    def version(self, connection: Connection, batch: Results) -> int:
        """The integer for the batch's model version, named now if it is new."""
        found = self._versions.get(batch.manifest)
        if found is None:
            row = (batch.manifest, batch.model, batch.version)
            _insert_new(connection, versions, ("manifest", "model", "version"), [row])
            wanted = select(versions.c.id).where(versions.c.manifest == batch.manifest)
            found = self._versions[batch.manifest] = int(connection.execute(wanted).scalar_one())
        return found

    def forget(self) -> None:
        """After a transaction that did not commit."""
        self._sources.clear()
        self._versions.clear()


class Writer:
    """What one transaction writes of arrived batches; the rows go to the database together, at `finish`."""

    def __init__(self, connection: Connection, names: Names, now_ms: int) -> None:
        self._connection = connection
        self._names = names
        self._now_ms = now_ms
        self._rows: list[Row] = []

    def lock(self, ids: Iterable[int]) -> dict[int, StreamState]:
        """The streams' states, which no other transaction changes until this one ends. Unknown ids are left out."""
        wanted = select(streams).where(streams.c.id.in_(sorted(set(ids)))).order_by(streams.c.id).with_for_update()
        return {row.id: StreamState(row.watermark, row.skipped) for row in self._connection.execute(wanted)}

    def store(self, batch: ReceivedBatch, read: Results, skip: int) -> None:
        """Take all rows of a batch but the first `skip`."""
        rows = zip(
            repeat(batch.stream),
            range(batch.first_seq + skip, batch.first_seq + batch.count),
            repeat(self._names.source(self._connection, batch.device, read.source)),
            read.frame[skip:].tolist(),
            repeat(self._names.version(self._connection, read)),
            read.label[skip:].tolist(),
            read.confidence[skip:].tolist(),
            read.latency_us[skip:].tolist(),
            read.captured_us[skip:].tolist(),
            repeat(self._now_ms),
        )
        self._rows.extend(rows)

    def set_aside(self, batch: ReceivedBatch, reason: str) -> None:
        """Keep a batch's bytes in quarantine. The same batch again changes nothing."""
        names = ("stream", "first_seq", "count", "reason", "payload", "received_ms")
        row = (batch.stream, str(batch.first_seq), batch.count, reason, batch.payload, self._now_ms)
        _insert_new(self._connection, quarantine, names, [row])

    def finish(self, moved: Mapping[int, StreamState]) -> None:
        """Write the rows and the states of the streams that moved."""
        if self._rows:
            _insert(self._connection, results, results.c.keys(), self._rows)
        if moved:
            change = update(streams).where(streams.c.id == bindparam("stream"))
            values = [{"stream": i, "watermark": s.watermark, "skipped": s.skipped} for i, s in moved.items()]
            self._connection.execute(change, values)


def open_stream(connection: Connection, device: str, epoch: int) -> Opened:
    """The stream of one life of a device's outbox, begun at watermark 0 if it is new."""
    _insert_new(connection, streams, ("device", "epoch"), [(device, epoch)])
    wanted = select(streams.c.id, streams.c.watermark).where(streams.c.device == device, streams.c.epoch == epoch)
    found = connection.execute(wanted).one()
    return Opened(found.id, found.watermark)


def quarantined(connection: Connection, limit: int) -> list[Quarantined]:
    """The newest batches set aside, newest first."""
    q = quarantine.c
    wanted = (
        select(
            streams.c.device,
            streams.c.epoch,
            q.first_seq,
            q.count,
            q.reason,
            func.length(q.payload).label("size"),
            q.received_ms,
        )
        .join_from(quarantine, streams)
        .order_by(q.id.desc())
        .limit(limit)
    )
    return [
        Quarantined(r.device, r.epoch, int(r.first_seq), r[3], r.reason, r.size, r.received_ms)
        for r in connection.execute(wanted)
    ]


def source_id(connection: Connection, device: str, source: str) -> int:
    """The integer for a device's source, named now if it is new."""
    _insert_new(connection, sources, ("device", "source"), [(device, source)])
    wanted = select(sources.c.id).where(sources.c.device == device, sources.c.source == source)
    return int(connection.execute(wanted).scalar_one())


def add_truths(connection: Connection, source: int, first_frame: int, labels: Sequence[int]) -> None:
    """Store the right labels of consecutive frames. A frame that has one keeps it."""
    rows = [(source, first_frame + i, label) for i, label in enumerate(labels)]
    _insert_new(connection, truths, ("source", "frame", "label"), rows)


def counts(connection: Connection) -> Counts:
    """The account over all devices and models."""
    answered = exists().where(results.c.source == truths.c.source, results.c.frame == truths.c.frame)
    copies = select((func.count() - 1).label("extra")).select_from(results)
    copies = copies.group_by(results.c.source, results.c.frame).having(func.count() > 1)
    return Counts(
        sent=_number(connection, select(func.count()).select_from(truths)),
        stored=_number(connection, select(func.count()).select_from(truths).where(answered)),
        duplicated=_number(connection, select(func.coalesce(func.sum(copies.subquery().c.extra), 0))),
        results_total=_number(connection, select(func.count()).select_from(results)),
        quarantined=_number(connection, select(func.count()).select_from(quarantine)),
        skipped=_number(connection, select(func.coalesce(func.sum(streams.c.skipped), 0))),
    )


def by_version(connection: Connection) -> list[VersionSummary]:
    """Results and accuracy of each model version that has any."""
    same_frame = (results.c.source == truths.c.source) & (results.c.frame == truths.c.frame)
    right = case((truths.c.label.is_(None), None), (truths.c.label == results.c.label, 1.0), else_=0.0)
    wanted = (
        select(versions.c.model, versions.c.version, func.count().label("n"), func.avg(right).label("share"))
        .select_from(results)
        .join(versions, versions.c.id == results.c.version)
        .outerjoin(truths, same_frame)
        .group_by(versions.c.model, versions.c.version)
        .order_by(versions.c.model, versions.c.version)
    )
    return [
        VersionSummary(row.model, row.version, row.n, None if row.share is None else float(row.share))
        for row in connection.execute(wanted)
    ]


def _number(connection: Connection, query: object) -> int:
    return int(connection.execute(query).scalar_one())  # type: ignore[call-overload]


def _insert(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row], end: str = "") -> None:
    """Hand rows straight to the driver: a dictionary for each, as `insert()` wants them, costs more than inserting."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    marks = ", ".join([mark] * len(names))
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks}) {end}"  # noqa: S608 - our own names
    connection.exec_driver_sql(sql, rows)


def _insert_new(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert those of the rows that break no unique key."""
    _insert(connection, table, names, rows, "ON CONFLICT DO NOTHING")
