"""Batches of events and of telemetry, as devices encode them."""

from __future__ import annotations

from cloud.events.service import Events
from cloud.fleet.telemetry import TelemetryHistory
from cloud.foundation.database import Database
from cloud.uplink.entities import Kind, KnownVersion
from cloud.uplink.service import Ingest, KnownVersions
from protos.v1.uplink_pb2 import Event, EventBatch, Telemetry, TelemetryBatch


def events(first: int, count: int, kind: str = "test.numbered") -> bytes:
    """Events whose texts are their numbers."""
    numbers = range(first, first + count)
    return EventBatch(events=[Event(happened_ms=n, kind=kind, text=str(n)) for n in numbers]).SerializeToString()


def telemetry(first: int, count: int) -> bytes:
    """Intervals with as many inferences as their number, each measured a millisecond after the other."""
    numbers = range(first, first + count)
    return TelemetryBatch(intervals=[Telemetry(measured_ms=n, inferences=n) for n in numbers]).SerializeToString()


def no_version(_: bytes) -> KnownVersion | None:
    return None


def ingest_of_all_kinds(database: Database, known: KnownVersions = no_version) -> Ingest:
    """As the app puts it together."""
    return Ingest(database, known, {Kind.EVENTS: Events(database), Kind.TELEMETRY: TelemetryHistory(database)})
