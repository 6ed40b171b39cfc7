"""Batches of events and of telemetry, as devices encode them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from cloud.events.service import Events
from cloud.events.store import events as events_table
from cloud.fleet.history import intervals
from cloud.fleet.telemetry import TelemetryHistory
from cloud.foundation.clocks import EARLIEST_MS
from cloud.foundation.database import Database
from cloud.uplink import tables
from cloud.uplink.entities import KnownVersion
from cloud.uplink.service import Ingest, KnownVersions
from protos.kit.kinds import Kind
from protos.v1.uplink_pb2 import Event, EventBatch, Telemetry, TelemetryBatch


def events(first: int, count: int, kind: str = "test.numbered") -> bytes:
    """Events whose texts are their numbers."""
    numbers = range(first, first + count)
    return EventBatch(events=[Event(happened_ms=n, kind=kind, text=str(n)) for n in numbers]).SerializeToString()


def telemetry(first: int, count: int) -> bytes:
    """Intervals with as many inferences as their number, each measured a millisecond after the other."""
    told = [Telemetry(measured_ms=EARLIEST_MS + n, inferences=n) for n in range(first, first + count)]
    return TelemetryBatch(intervals=told).SerializeToString()


def no_version(_: bytes) -> KnownVersion | None:
    return None


def ingest_of_all_kinds(database: Database, known: KnownVersions = no_version) -> Ingest:
    """As the app puts it together."""
    return Ingest(database, known, {Kind.EVENTS: Events(database), Kind.TELEMETRY: TelemetryHistory(database)})


TABLES = {Kind.RESULTS: tables.results, Kind.EVENTS: events_table, Kind.TELEMETRY: intervals}
_NUMBERS = {
    Kind.RESULTS: tables.results.c.frame,
    Kind.EVENTS: events_table.c.happened_ms,
    Kind.TELEMETRY: intervals.c.measured_ms - EARLIEST_MS,
}
"""What in a row is the number that the device gave it, by which a row that is there twice shows."""


def stored(connection: Connection, device: str, kind: Kind) -> list[int]:
    """The numbers of what is stored of a device, a number as often as it is there."""
    table, streams = TABLES[kind], tables.streams
    of_device = select(streams.c.id).where(streams.c.device == device, streams.c.kind == kind)
    wanted = select(_NUMBERS[kind].label("number")).where(table.c.stream.in_(of_device)).order_by("number")
    return list(connection.execute(wanted).scalars())
