"""The SQL of samples. A sample is a row; its frame's bytes are a file that several rows may share.

A row is tied to its result by what both say: device, source, frame and the model's manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from sqlalchemy import (
    JSON,
    REAL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    RowMapping,
    Select,
    String,
    Table,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from cloud.foundation.database import metadata
from cloud.samples.entities import Offer, Policy, Result, Sample, Totals, Wanted
from cloud.uplink.tables import results, sources, streams, versions

policies = Table(
    "sample_policies",
    metadata,
    Column("name", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("selector", JSON, nullable=False),
    Column("below", Float, nullable=False),
    Column("disagreement", Boolean, nullable=False),
    Column("share", Float, nullable=False),
    Column("bytes_per_day", BigInteger, nullable=False),
)

samples = Table(
    "samples",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("source", String, nullable=False),
    Column("frame", BigInteger, nullable=False),
    Column("captured_us", BigInteger, nullable=False),
    Column("model", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("label", Integer, nullable=False),
    Column("confidence", REAL, nullable=False),
    Column("reason", String, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    UniqueConstraint("device", "source", "frame", "manifest"),
    Index("samples_by_digest", "digest"),
    Index("samples_by_age", "received_ms"),
    sqlite_autoincrement=True,  # an id is never given twice: who pages through them trusts that
)

_OFFER = tuple(Offer.__dataclass_fields__)


def all_policies(connection: Connection) -> list[Policy]:
    """By name."""
    rows = connection.execute(select(policies).order_by(policies.c.name)).mappings()
    return [Policy(**row) for row in rows]


def put_policy(connection: Connection, policy: Policy) -> None:
    """Set a policy, in place of one of the same name."""
    remove_policy(connection, policy.name)
    connection.execute(insert(policies).values(**asdict(policy) | {"selector": dict(policy.selector)}))


def remove_policy(connection: Connection, name: str) -> bool:
    """Remove a policy; False: there was none."""
    return connection.execute(delete(policies).where(policies.c.name == name)).rowcount > 0


def add(connection: Connection, device: str, offer: Offer, now_ms: int) -> None:
    """Keep a sample. The same frame of the same model again changes nothing."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {"device": device, "received_ms": now_ms, **asdict(offer)}
    connection.execute(dialect.insert(samples).values(**row).on_conflict_do_nothing())


def listed(connection: Connection, wanted: Wanted) -> list[Sample]:
    """Samples with their results, the newest first."""
    chosen = select(samples.c.id)
    for name in ("device", "model", "reason", "source", "frame"):
        if (value := getattr(wanted, name)) is not None:
            chosen = chosen.where(samples.c[name] == value)
    if wanted.before is not None:
        chosen = chosen.where(samples.c.id < wanted.before)
    return _read(connection, chosen.order_by(samples.c.id.desc()).limit(wanted.limit))


def find(connection: Connection, sample: int) -> Sample | None:
    """One sample."""
    return next(iter(_read(connection, select(samples.c.id).where(samples.c.id == sample))), None)


def totals(connection: Connection) -> Totals:
    """How many there are."""
    frames = select(samples.c.digest, func.max(samples.c.size).label("size")).group_by(samples.c.digest).subquery().c
    count = connection.execute(select(func.count()).select_from(samples)).scalar_one()
    different, size = connection.execute(select(func.count(), func.coalesce(func.sum(frames.size), 0))).one()
    return Totals(count, different, int(size))


def oldest(connection: Connection, limit: int, before_ms: int | None = None) -> list[tuple[int, bytes]]:
    """Ids and digests of the samples received first (all before `before_ms`, if that is given)."""
    wanted = select(samples.c.id, samples.c.digest).order_by(samples.c.received_ms, samples.c.id).limit(limit)
    if before_ms is not None:
        wanted = wanted.where(samples.c.received_ms < before_ms)
    return [(row.id, row.digest) for row in connection.execute(wanted)]


def remove(connection: Connection, ids: Sequence[int]) -> None:
    """Remove samples' rows."""
    connection.execute(delete(samples).where(samples.c.id.in_(ids)))


def in_use(connection: Connection, digests: Iterable[bytes]) -> set[bytes]:
    """Those of the digests that a sample has."""
    wanted = select(samples.c.digest).where(samples.c.digest.in_(list(digests))).distinct()
    return set(connection.execute(wanted).scalars())


def _read(connection: Connection, chosen: Select[tuple[int]]) -> list[Sample]:
    s, r = samples.c, results.c
    wanted = (
        select(samples, streams.c.epoch, r.seq)
        .outerjoin(sources, (sources.c.device == s.device) & (sources.c.source == s.source))
        .outerjoin(versions, versions.c.manifest == s.manifest)
        .outerjoin(results, (r.source == sources.c.id) & (r.frame == s.frame) & (r.version == versions.c.id))
        .outerjoin(streams, streams.c.id == r.stream)
        .where(s.id.in_(chosen))
        .order_by(s.id.desc())
    )
    found = {row["id"]: _sample(row) for row in connection.execute(wanted).mappings()}  # a doubled result counts once
    return list(found.values())


def _sample(row: RowMapping) -> Sample:
    offer = Offer(**{name: row[name] for name in _OFFER})
    result = None if row["seq"] is None else Result(row["epoch"], row["seq"])
    return Sample(row["id"], row["device"], offer, row["received_ms"], result)
