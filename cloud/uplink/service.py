"""What the cloud does with results and truths: one method for each use, synchronous."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloud.foundation.database import Database
from cloud.uplink import rules, store
from cloud.uplink.entities import (
    Fate,
    KnownVersion,
    Opened,
    Outcome,
    Quarantined,
    ReceivedBatch,
    Summary,
)
from protos.kit.columns import Malformed, Results

KnownVersions = Callable[[bytes], KnownVersion | None]
"""From a manifest's digest to the registered version it names; None: none."""


class Ingest:
    """Takes batches of many devices, and says what the database holds of them.

    `commit` is for one thread at a time; everything else may be called from any.
    """

    def __init__(self, database: Database, known_version: KnownVersions) -> None:
        self._database = database
        self._known_version = known_version
        self._names = store.Names()

    def open(self, device: str, epoch: int) -> Opened:
        """The stream of this life of the device's outbox, and how far it has come."""
        with self._database.transaction() as connection:
            return store.open_stream(connection, device, epoch)

    def commit(self, batches: Sequence[ReceivedBatch], now_ms: int) -> list[Outcome]:
        """Store what is new in the batches, all of it or (when this raises) none, and tell each one's fate.

        Batches of one stream must be in the order in which they came.
        """
        readings = [self._read(batch) for batch in batches]
        try:
            with self._database.transaction() as connection:
                writer = store.Writer(connection, self._names, now_ms)
                outcomes = _write(writer, list(zip(batches, readings, strict=True)))
        except BaseException:
            self._names.forget()
            raise
        return outcomes

    def truths(self, device: str, source: str, first_frame: int, labels: Sequence[int]) -> None:
        """Keep the right labels of frames first_frame, first_frame + 1, ...; the same again changes nothing.

        Raises InvalidTruths.
        """
        labels = list(labels)
        rules.check_truths(device, source, first_frame, labels)
        with self._database.transaction() as connection:
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

    def quarantined(self, limit: int) -> list[Quarantined]:
        """The newest batches that could not be stored, newest first."""
        with self._database.reading() as connection:
            return store.quarantined(connection, limit)

    def _read(self, batch: ReceivedBatch) -> Results | str:
        """The batch's columns, or why they cannot be stored. Outside of the transaction: it holds a lock."""
        try:
            results = rules.read(batch.payload, batch.count)
        except Malformed as error:
            return str(error)
        return rules.complaint(results, self._known_version(results.manifest)) or results


def _write(writer: store.Writer, arrived: Sequence[tuple[ReceivedBatch, Results | str]]) -> list[Outcome]:
    """Rows, quarantine and watermarks of one transaction."""
    before = writer.lock(batch.stream for batch, _ in arrived)
    states, outcomes = dict(before), []
    for batch, reading in arrived:
        state = states.get(batch.stream)
        if state is None:
            outcomes.append(Outcome(Fate.DETACHED, 0, "the database does not know this stream any more"))
            continue
        unreadable = reading if isinstance(reading, str) else ""
        states[batch.stream], placement = rules.place(state, batch, unreadable)
        if placement.fate is Fate.STORED and isinstance(reading, Results):
            writer.store(batch, reading, placement.skip)
        elif placement.fate is Fate.QUARANTINED:
            writer.set_aside(batch, placement.reason)
        outcomes.append(Outcome(placement.fate, states[batch.stream].watermark, placement.reason))
    writer.finish({stream: state for stream, state in states.items() if state != before[stream]})
    return outcomes
