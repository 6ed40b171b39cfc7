"""Results and their account, read by what people and programs ask. Only SQL that says SELECT."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, cast

import numpy as np
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, func, select, tuple_
from sqlalchemy.exc import OperationalError

from cloud.uplink.aggregates import CONFIDENCES, LATENCIES, MINUTE_MS
from cloud.uplink.questions import Account, Bucket, Found, Group, InvalidQuestion, Place, Row, Which
from cloud.uplink.sampled import SamplesOf
from cloud.uplink.tables import (  # fmt: skip
    OF_RESULTS,
    result_minute_labels,
    result_minutes,
    results,
    sources,
    streams,
    versions,
)

PATIENCE_S = 20
_STEPS = 10_000
"""SQLite looks at the clock after so many of its instructions."""

_LAST_MINUTE = 2**31 - 1
"""What the column holds, in the year 6053. Calendars go further, and people ask for "all" that way."""

r = results.c
ROW = [r[field.name] for field in fields(Row)]
"""The columns of a Row, in its order."""


_NAMED = {
    "stream": (select(streams.c.id, streams.c.device, streams.c.epoch), ("device", "epoch")),
    "source": (select(sources.c.id, sources.c.source), ("source",)),
    "version": (
        select(versions.c.id, versions.c.model, versions.c.version, versions.c.slot),
        ("model", "version", "slot"),
    ),
}
"""What a result's integers stand for."""


@contextmanager
def bounded(connection: Connection) -> Iterator[None]:
    """What is asked within must be answered within PATIENCE_S. Raises InvalidQuestion."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{PATIENCE_S}s'")
    else:
        deadline = time.monotonic() + PATIENCE_S
        _sqlite(connection).set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield
    except OperationalError as error:
        if "interrupted" not in str(error.orig) and "statement timeout" not in str(error.orig):
            raise
        raise InvalidQuestion(
            f"there is no answer within {PATIENCE_S} s: ask for a shorter time (from, to), or for one device"
        ) from error
    finally:
        if connection.dialect.name == "sqlite":
            _sqlite(connection).set_progress_handler(None, 0)


def page(connection: Connection, which: Which, after: Place | None, limit: int) -> list[Row]:
    """At most `limit` results behind `after`, newest first: of one device in its own order, else by their receipt.

    A frame has few: they are found by its number, then put in order.
    """
    wanted = select(*ROW).where(*_conditions(which))
    if which.device is None or which.frame is not None:
        return _by_time(connection, wanted, after, limit)
    return _by_stream(connection, wanted, which.device, after, limit)


def _by_time(connection: Connection, wanted: Select[Any], after: Place | None, limit: int) -> list[Row]:
    if after is not None:
        key = tuple_(r.received_ms, r.stream, r.seq)
        # The first condition says nothing new, but an index and the choice of partitions understand it.
        wanted = wanted.where(r.received_ms <= after.received_ms, key < (after.received_ms, after.stream, after.seq))
    wanted = wanted.order_by(r.received_ms.desc(), r.stream.desc(), r.seq.desc()).limit(limit)
    return _rows(connection.execute(wanted))


def _by_stream(connection: Connection, wanted: Select[Any], device: str, after: Place | None, limit: int) -> list[Row]:
    """Stream by stream, each along its key: however many results others have, they are not looked at."""
    ids = select(streams.c.id).where(streams.c.device == device, OF_RESULTS).order_by(streams.c.id.desc())
    found: list[Row] = []
    for stream in connection.execute(ids).scalars().all():
        if after is not None and stream > after.stream:
            continue
        of_one = wanted.where(r.stream == stream)
        if after is not None and stream == after.stream:
            of_one = of_one.where(r.seq < after.seq)
        found += _rows(connection.execute(of_one.order_by(r.seq.desc()).limit(limit - len(found))))
        if len(found) == limit:
            break
    return found


def named(connection: Connection, rows: Sequence[Row], samples_of: SamplesOf) -> list[Found]:
    """The rows with the names of their devices, sources and versions, and their samples."""
    sample_of = samples_of(connection, {(one.source, one.frame) for one in rows})
    device_of, source_of, version_of = (
        _names(connection, wanted, {getattr(one, integers) for one in rows}) for integers, (wanted, _) in _NAMED.items()
    )
    return [
        Found(
            device=device_of[one.stream][1],
            epoch=device_of[one.stream][2],
            seq=one.seq,
            source=source_of[one.source][1],
            frame=one.frame,
            model=version_of[one.version][1],
            version=version_of[one.version][2],
            slot=version_of[one.version][3],
            label=one.label,
            confidence=_as_said(one.confidence),
            latency_us=one.latency_us,
            captured_us=one.captured_us,
            received_ms=one.received_ms,
            sample=sample_of.get((one.source, one.frame)),
        )
        for one in rows
    ]


def chunks(
    connection: Connection, which: Which, rows: int, samples_of: SamplesOf
) -> Iterator[dict[str, Sequence[Any]]]:
    """All results that are meant, in the order of their receipt, as columns of at most so many rows.

    The columns are those of `Found`, `sample` its id beside `sample_digest`. They come as they are read: memory holds
    one chunk, however many there are.
    """
    wanted = select(*ROW).where(*_conditions(which)).order_by(r.received_ms)
    if which.device is not None:
        wanted = wanted.where(r.stream.in_(select(streams.c.id).where(streams.c.device == which.device)))
    found = connection.execute(wanted, execution_options={"yield_per": rows})
    names = _Names(connection)
    for chunk in found.partitions():
        columns: dict[str, Sequence[Any]] = dict(
            zip((column.name for column in ROW), zip(*chunk, strict=True), strict=True)
        )
        frames = list(zip(columns["source"], columns["frame"], strict=True))
        sample_of = samples_of(connection, set(frames))
        samples = [sample_of.get(frame) for frame in frames]
        columns["sample"] = [one and one.id for one in samples]
        columns["sample_digest"] = [one and one.digest for one in samples]
        yield names.given_to(columns)


class _Names:
    """Names by their integers, each read once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str, dict[int, Sequence[Any]]] = {name: {} for name in _NAMED}

    def given_to(self, columns: dict[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """The columns with names instead of integers."""
        named = dict(columns)
        del named["stream"]
        for integers, (wanted, told) in _NAMED.items():
            known = self._known[integers]
            if new := set(columns[integers]) - known.keys():
                known |= _names(self._connection, wanted, new)
            for place, name in enumerate(told, start=1):
                of = {number: row[place] for number, row in known.items()}
                named[name] = [of[number] for number in columns[integers]]
        return named


def account(
    connection: Connection, which: Which, bucket: Bucket, groups: frozenset[Group], limit: int
) -> list[Account]:
    """The account of the results that are meant, oldest first, at most `limit` entries. It reads no result."""
    by_label = Group.LABEL in groups or which.label is not None
    table = result_minute_labels if by_label else result_minutes
    t = table.c
    told: dict[str, ColumnElement[Any]] = {"begin": (t.minute // bucket.value).label("begin")}
    if Group.DEVICE in groups:
        told["device"] = sources.c.device
    if Group.VERSION in groups:
        told |= {"model": versions.c.model, "version": versions.c.version}
    if Group.SLOT in groups:
        told["slot"] = versions.c.slot
    if Group.LABEL in groups:
        told["label"] = t.label
    sums = [column.name for column in t if not column.primary_key]
    wanted = (
        select(*told.values(), *(func.sum(t[name]).label(f"sum_{name}") for name in sums))
        .join_from(table, sources, sources.c.id == t.source)
        .join(versions, versions.c.id == t.version)
        .where(*_names_asked(which), *_minutes_asked(which, t.minute))
        .group_by(*told.values())
        .order_by(*told.values())
        .limit(limit)
    )
    if which.label is not None:
        wanted = wanted.where(t.label == which.label)
    return [_account(row, bucket) for row in connection.execute(wanted).mappings()]


def _account(value: RowMapping, bucket: Bucket) -> Account:
    count = int(value["sum_results"])
    latency = value.get("sum_latency_us")
    return Account(
        begin_ms=value["begin"] * bucket.value * MINUTE_MS,
        device=value.get("device"),
        model=value.get("model"),
        version=value.get("version"),
        slot=value.get("slot"),
        label=value.get("label"),
        results=count,
        confidence=value["sum_confidence"] / count,
        latency_us=None if latency is None else int(latency) / count,
        latencies=[] if latency is None else [int(value[f"sum_{name}"]) for name in LATENCIES],
        confidences=[] if latency is None else [int(value[f"sum_{name}"]) for name in CONFIDENCES],
    )


def _conditions(which: Which) -> Iterator[ColumnElement[bool]]:
    if which.source is not None:
        yield r.source.in_(select(sources.c.id).where(*_names_asked(Which(which.device, which.source))))
    if (answered := Which(model=which.model, version=which.version, slot=which.slot)) != Which():
        yield r.version.in_(select(versions.c.id).where(*_names_asked(answered)))
    if which.frame is not None:
        yield r.frame == which.frame
    if which.label is not None:
        yield r.label == which.label
    if which.from_ms is not None:
        yield r.received_ms >= which.from_ms
    if which.to_ms is not None:
        yield r.received_ms < which.to_ms
    if which.min_confidence is not None:
        yield r.confidence >= _as_stored(which.min_confidence)
    if which.max_confidence is not None:
        yield r.confidence <= _as_stored(which.max_confidence)


def _as_stored(confidence: float) -> float:
    """The single precision nearest to it: else a result shown with 0.9 would not be one of at least 0.9."""
    return float(np.float32(confidence))


def _as_said(confidence: float) -> float:
    """With no more digits than single precision has: one database hands out 0.9, the other 0.8999999761581421."""
    return float(str(np.float32(confidence)))


def _names_asked(which: Which) -> Iterator[ColumnElement[bool]]:
    """Conditions on `sources` and `versions`."""
    if which.device is not None:
        yield sources.c.device == which.device
    if which.source is not None:
        yield sources.c.source == which.source
    if which.model is not None:
        yield versions.c.model == which.model
    if which.version is not None:
        yield versions.c.version == which.version
    if which.slot is not None:
        yield versions.c.slot == which.slot


def _minutes_asked(which: Which, minute: ColumnElement[int]) -> Iterator[ColumnElement[bool]]:
    """Whole minutes: the one in which the time begins, not the one in which it ends, unless that has begun."""
    if which.from_ms is not None:
        yield minute >= min(which.from_ms // MINUTE_MS, _LAST_MINUTE)
    if which.to_ms is not None:
        yield minute < min(-(-which.to_ms // MINUTE_MS), _LAST_MINUTE)


def _names(connection: Connection, wanted: Select[Any], ids: Iterable[int]) -> dict[int, Sequence[Any]]:
    key = wanted.selected_columns[0]
    return {row[0]: row for row in connection.execute(wanted.where(key.in_(ids)))}


def _rows(found: Iterable[Sequence[Any]]) -> list[Row]:
    return [Row(*row) for row in found]


def _sqlite(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)
