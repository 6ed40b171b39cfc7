"""What the cloud does with results and truths: one method for each use, synchronous."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from cloud.foundation.arriving import Arrived
from cloud.foundation.database import Database, Transaction
from cloud.uplink import auditing, rules, store, store_aggregates, store_audit, store_kinds, store_quarantine
from cloud.uplink.aggregates import MINUTE_MS
from cloud.uplink.clocks import Clocks
from cloud.uplink.entities import (
    DAY_MS,
    Audited,
    Books,
    Fate,
    Opened,
    Outcome,
    ReceivedBatch,
    Summary,
)
from cloud.uplink.reading import KnownVersions, Read, Reader, Takers
from protos.kit.columns import Results
from protos.kit.kinds import Kind

_Taken: TypeAlias = tuple[ReceivedBatch, Read]


class Ingest:
    """Takes batches of many devices, and says what the database holds of them.

    `commit` is for one thread at a time; everything else may be called from any. takers: who keeps the rows of the
    kinds besides results; what nobody keeps is not taken.
    """

    def __init__(self, database: Database, known_version: KnownVersions, takers: Takers | None = None) -> None:
        self._database = database
        self._takers = dict(takers or {})
        self._reader = Reader(known_version, self._takers)
        self._clocks = Clocks()
        self._names = store.Names()
        self._days: frozenset[int] = frozenset()

    @property
    def kinds(self) -> frozenset[Kind]:
        """What is taken."""
        return frozenset({Kind.RESULTS, *self._takers})

    def open(self, device: str, epoch: int, kind: Kind = Kind.RESULTS) -> Opened:
        """The stream of this life of the device's outbox of a kind that is taken, and how far it has come."""
        with self._database.reading() as connection:
            found = store.find_stream(connection, device, kind, epoch)
        if found is None:
            with self._database.beside() as connection:
                store.begin_stream(connection, device, kind, epoch)
                found = store.find_stream(connection, device, kind, epoch)
        assert found is not None, "begun and gone"
        return found

    def commit(self, batches: Sequence[ReceivedBatch], now_ms: int) -> list[Outcome]:
        """Store what is new in the batches, all of it or (when this raises) none, and tell each one's fate.

        Batches of one stream must be in the order in which they came.
        """
        arrived = [(batch, self._read(batch, now_ms)) for batch in batches]
        self._make_days(now_ms)
        self._learn_names(arrived)
        try:
            with self._database.beside() as connection:
                return self._write(connection, arrived, now_ms)
        except BaseException:
            self._days = frozenset()  # whatever it was, it is not because of a day that we only think is there
            raise

    def expire(self, now_ms: int, days: int) -> int:
        """Drop results received more than `days` whole days ago; returns how many."""
        first_kept = rules.first_kept_day(now_ms, days)
        return self._in_slices(lambda connection: store.expire(connection, first_kept))

    def expire_kind(self, kind: Kind, now_ms: int, days: int) -> int:
        """Drop rows of a kind besides results that were received more than `days` whole days ago; returns how many."""
        table, first_kept = self._takers[kind].table, rules.first_kept_day(now_ms, days) * DAY_MS
        return self._in_slices(lambda connection: store_kinds.expire(connection, table, first_kept))

    def expire_account(self, now_ms: int, days: int) -> int:
        """Drop the account of minutes more than `days` whole days ago; returns how many rows."""
        first_kept = rules.first_kept_day(now_ms, days) * DAY_MS // MINUTE_MS
        return self._in_slices(lambda connection: store_aggregates.expire(connection, first_kept))

    def _in_slices(self, drop: Callable[[Transaction], int]) -> int:
        """Drop slice after slice, each in a transaction of its own: a day of millions takes long, and others write."""
        dropped = 0
        while True:
            with self._database.beside() as connection:
                gone = drop(connection)
            if not gone:
                return dropped
            dropped += gone

    def expire_quarantine(self, now_ms: int, days: int) -> int:
        """Drop batches that were set aside more than `days` whole days ago; returns how many."""
        with self._database.beside() as connection:
            return store_quarantine.expire(connection, rules.first_kept_day(now_ms, days) * DAY_MS)

    def truths(self, device: str, source: str, first_frame: int, labels: Sequence[int]) -> None:
        """Keep the right labels of frames first_frame, first_frame + 1, ...; the same again changes nothing.

        Raises InvalidTruths.
        """
        labels = list(labels)
        rules.check_truths(device, source, first_frame, labels)
        with self._database.beside() as connection:
            store.add_truths(connection, store.source_id(connection, device, source), first_frame, labels)

    def summary(self, model: str | None = None) -> Summary:
        """The account of all results, and by version that of `model` (of the only one, if None).

        Raises SeveralModels.
        """
        with self._database.reading() as connection:
            counts = store.counts(connection)
            every = store.by_version(connection)
        shown = rules.model_to_show(every, model)
        versions = [version for version in every if version.model == shown]
        return Summary(
            counts=counts,
            model=shown,
            accuracy={v.version: v.accuracy for v in versions if v.accuracy is not None},
            results_per_version={v.version: v.results for v in versions},
        )

    def audit(self, kind: Kind = Kind.RESULTS) -> list[Audited]:
        """By device, what it says it sent and what there is of it. Reads every row: for people, not often."""
        with self._database.reading() as connection:
            if kind is Kind.RESULTS:
                facts, copies = store_audit.facts(connection), store_audit.copies(connection)
            else:
                facts, copies = store_audit.facts(connection, kind, self._takers[kind].table), {}
        return [auditing.audited(device, streams, copies.get(device, 0)) for device, streams in sorted(facts.items())]

    def _read(self, batch: ReceivedBatch, now_ms: int) -> Read:
        """The batch's rows, or why they cannot be stored."""
        if batch.books is not None:
            return ""
        read = self._reader.read(batch.kind, batch.payload, batch.count)
        if isinstance(read, Results):
            self._clocks.note(batch.device, read, now_ms)
        return read

    def _make_days(self, now_ms: int) -> None:
        days = frozenset(rules.days_to_make(now_ms))
        if not days <= self._days:
            with self._database.transaction() as connection:
                store.make_days(connection, sorted(days))
            self._days = days

    def _learn_names(self, arrived: Sequence[_Taken]) -> None:
        read = [(batch.device, results) for batch, results in arrived if isinstance(results, Results)]
        if all(self._names.knows(device, results) for device, results in read):
            return
        with self._database.transaction() as connection:
            names = self._names.learn(connection, read)
        self._names = names

    def _write(self, connection: Transaction, arrived: Sequence[_Taken], now_ms: int) -> list[Outcome]:
        """Rows, quarantine and watermarks of one transaction."""
        before = store.lock(connection, (batch.stream for batch, _ in arrived))
        states, outcomes, blocks = dict(before), [], []
        rows: dict[Kind, list[Arrived[Any]]] = defaultdict(list)
        said: dict[int, Books] = {}
        for batch, reading in arrived:
            state = states.get(batch.stream)
            if state is None:
                outcomes.append(Outcome(Fate.DETACHED, 0, "the database does not know this stream any more"))
                continue
            if batch.books is not None:
                said[batch.stream] = batch.books
                outcomes.append(Outcome(Fate.NOTED, state.watermark))
                continue
            unreadable = reading if isinstance(reading, str) else ""
            states[batch.stream], placement = rules.place(state, batch, unreadable)
            if placement.fate is Fate.STORED and isinstance(reading, Results):
                new = reading.without_first(placement.skip)
                blocks.append(self._names.block(batch.stream, batch.device, batch.first_seq + placement.skip, new))
            elif placement.fate is Fate.STORED and isinstance(reading, list):
                first_seq = batch.first_seq + placement.skip
                rows[batch.kind].append(Arrived(batch.device, batch.stream, first_seq, reading[placement.skip :]))
            elif placement.fate is Fate.QUARANTINED:
                store_quarantine.set_aside(connection, batch, placement, now_ms)
            outcomes.append(Outcome(placement.fate, states[batch.stream].watermark, placement.reason))
        moved = {stream: state for stream, state in states.items() if state != before[stream]}
        store.write(connection, blocks, moved, now_ms)
        for kind, of_kind in sorted(rows.items()):
            self._takers[kind].write(connection, of_kind, now_ms)
        if said:
            store_audit.note(connection, said, now_ms)
        return outcomes
