"""The uplink's SQL: streams, names, truths, and the account of results.

What is written of results, and dropped, differs by database: `store_sqlite.py`, `store_postgresql.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection, case, exists, func, select

from cloud.uplink import store_aggregates, store_audit, store_postgresql, store_sqlite
from cloud.uplink.aggregates import added
from cloud.uplink.entities import (
    Block,
    Counts,
    Opened,
    StreamState,
    VersionSummary,
)
from cloud.uplink.inserting import insert_new
from cloud.uplink.summing import total
from cloud.uplink.tables import OF_RESULTS, quarantine, results, sources, streams, truths, versions
from protos.kit.columns import Results
from protos.kit.kinds import Kind


class _Dialect(Protocol):
    """What each kind of database does its own way."""

    def lock(self, connection: Connection, ids: Iterable[int]) -> dict[int, StreamState]: ...
    def write(
        self, connection: Connection, blocks: Sequence[Block], moved: Mapping[int, StreamState], now_ms: int
    ) -> None: ...
    def make_days(self, connection: Connection, days: Iterable[int]) -> None: ...
    def expire(self, connection: Connection, before_day: int) -> int: ...


_DIALECTS: Mapping[str, _Dialect] = {"sqlite": store_sqlite, "postgresql": store_postgresql}


@dataclass
class Names:
    """Integer names of sources and of versions in a slot. They are committed before a row refers to them."""

    sources: dict[tuple[str, str], int] = field(default_factory=dict)
    versions: dict[tuple[bytes, str], int] = field(default_factory=dict)

    def knows(self, device: str, read: Results) -> bool:
        """Whether the rows of a batch can be written."""
        return (device, read.source) in self.sources and (read.manifest, read.slot) in self.versions

    def learn(self, connection: Connection, arrived: Iterable[tuple[str, Results]]) -> Names:
        """These names and those of more batches, given now if they are new; to be used once that is committed."""
        known = Names(dict(self.sources), dict(self.versions))
        for device, read in arrived:
            if (device, read.source) not in known.sources:
                known.sources[device, read.source] = source_id(connection, device, read.source)
            if (read.manifest, read.slot) not in known.versions:
                known.versions[read.manifest, read.slot] = _version_id(connection, read)
        return known

    def block(self, stream: int, device: str, first_seq: int, read: Results) -> Block:
        """Rows under these numbers, with names that are known."""
        version = self.versions[read.manifest, read.slot]
        return Block(stream, first_seq, self.sources[device, read.source], version, read)


def lock(connection: Connection, ids: Iterable[int]) -> dict[int, StreamState]:
    """The streams' states, which no other transaction changes until this one ends. Unknown ids are left out."""
    return _dialect(connection).lock(connection, ids)


def write(connection: Connection, blocks: Sequence[Block], moved: Mapping[int, StreamState], now_ms: int) -> None:
    """Add the blocks' rows, received at `now_ms`, to the results and their account; move locked streams."""
    _dialect(connection).write(connection, blocks, moved, now_ms)
    if any(len(block.results) for block in blocks):
        store_aggregates.keep(connection, added(blocks, now_ms))


def make_days(connection: Connection, days: Iterable[int]) -> None:
    """Make room for what is received on these days, counted from 1970. The transaction must be the only writer."""
    _dialect(connection).make_days(connection, days)


def expire(connection: Connection, before_day: int) -> int:
    """Drop some of the results received before a day, with their truths; returns how many, 0: there are no more."""
    return _dialect(connection).expire(connection, before_day)


def find_stream(connection: Connection, device: str, kind: Kind, epoch: int) -> Opened | None:
    """The stream of one life of a device's outbox of this kind, if it has begun."""
    s = streams.c
    wanted = select(s.id, s.watermark).where(s.device == device, s.kind == kind, s.epoch == epoch)
    found = connection.execute(wanted).one_or_none()
    return Opened(found.id, found.watermark) if found else None


def begin_stream(connection: Connection, device: str, kind: Kind, epoch: int) -> None:
    """Begin a stream at watermark 0, if it has not begun."""
    insert_new(connection, streams, ("device", "kind", "epoch"), [(device, int(kind), epoch)])


def source_id(connection: Connection, device: str, source: str) -> int:
    """The integer for a device's source, named now if it is new."""
    insert_new(connection, sources, ("device", "source"), [(device, source)])
    wanted = select(sources.c.id).where(sources.c.device == device, sources.c.source == source)
    return int(connection.execute(wanted).scalar_one())


def add_truths(connection: Connection, source: int, first_frame: int, labels: Sequence[int]) -> None:
    """Store the right labels of consecutive frames. A frame that has one keeps it."""
    rows = [(source, first_frame + i, label) for i, label in enumerate(labels)]
    insert_new(connection, truths, ("source", "frame", "label"), rows)


def counts(connection: Connection) -> Counts:
    """The account over all devices and models."""
    answered = exists().where(results.c.source == truths.c.source, results.c.frame == truths.c.frame)
    return Counts(
        sent=_number(connection, select(func.count()).select_from(truths)),
        stored=_number(connection, select(func.count()).select_from(truths).where(answered)),
        duplicated=_number(connection, select(func.coalesce(func.sum(store_audit.repeated().subquery().c.extra), 0))),
        results_total=_number(connection, select(func.count()).select_from(results)),
        quarantined=_number(connection, select(func.count()).select_from(quarantine).join(streams).where(OF_RESULTS)),
        skipped=_number(connection, select(total(streams.c.skipped)).where(OF_RESULTS)),
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


def _dialect(connection: Connection) -> _Dialect:
    return _DIALECTS[connection.dialect.name]


def _version_id(connection: Connection, read: Results) -> int:
    names = ("manifest", "model", "version", "slot")
    insert_new(connection, versions, names, [(read.manifest, read.model, read.version, read.slot)])
    wanted = select(versions.c.id).where(versions.c.manifest == read.manifest, versions.c.slot == read.slot)
    return _number(connection, wanted)


def _number(connection: Connection, query: object) -> int:
    return int(connection.execute(query).scalar_one())  # type: ignore[call-overload]
