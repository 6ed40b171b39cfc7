"""What devices measured of themselves, interval by interval: the newest of each, and the history of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from cloud.fleet import health, history, newest, rules, store
from cloud.fleet.entities import Interval, IntervalPlace, Intervals, IntervalsAsked
from cloud.foundation.arriving import Arrived
from cloud.foundation.database import Database, Transaction
from protos.v1.uplink_pb2 import Telemetry


class TelemetryHistory:
    """All intervals that came with numbers. May be used from any thread; several processes may share the database."""

    table = history.intervals

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, payload: bytes, count: int) -> list[Telemetry]:
        """The intervals of a batch, as the uplink asks. Raises Malformed."""
        return rules.read_intervals(payload, count)

    def write(self, transaction: Transaction, arrived: Sequence[Arrived[Telemetry]], now_ms: int) -> None:
        """Store what is new, in the uplink's transaction, and of each device the newest where that is looked for."""
        history.add(transaction, arrived, now_ms)
        of_device: dict[str, list[Telemetry]] = defaultdict(list)
        for batch in arrived:
            of_device[batch.device] += batch.rows
        said = {device: (rules.newest(rows, now_ms), now_ms) for device, rows in of_device.items()}
        put_newest(transaction, said)

    def page(self, asked: IntervalsAsked, after: IntervalPlace | None, limit: int) -> Intervals:
        """Intervals behind `after`, newest first, at most `limit`."""
        with self._database.reading() as transaction:
            found = history.page(transaction, asked, after, limit)
        read = [
            Interval(rules.read_telemetry(told, received_ms), rules.read_health(told)) for _, told, received_ms in found
        ]
        return Intervals(read, found[-1][0] if len(found) == limit else None)


def put_newest(transaction: Transaction, said: Mapping[str, tuple[Telemetry, int]]) -> None:
    """Write what devices say, with when it came, over what they said before, unless that was measured later.

    That of a device that never reported is dropped.
    """
    known = newest.known(transaction, said)
    former = newest.measured(transaction, store.telemetry, known)
    new = {
        device: said[device]
        for device in known
        if device not in former or rules.replaces(said[device][0].measured_ms, said[device][1], *former[device])
    }
    rows = [{"device": device, **asdict(rules.read_telemetry(*one))} for device, one in new.items()]
    newest.write(transaction, store.telemetry, rows)
    told = {device: rules.read_health(one) for device, (one, _) in new.items()}
    health.put(transaction, {device: one for device, one in told.items() if one})
