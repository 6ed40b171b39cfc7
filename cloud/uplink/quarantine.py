"""Batches that could not be stored: looked at, and stored after all once they can be."""

from __future__ import annotations

from collections.abc import Sequence

from cloud.foundation.arriving import Arrived
from cloud.foundation.database import Database, Transaction
from cloud.uplink import rules, store, store_consumers, store_quarantine
from cloud.uplink.entities import DAY_MS, Aside, Quarantined, Retried, StreamState, UnknownBatch
from cloud.uplink.reading import KnownVersions, Read, Reader, Takers
from protos.kit.columns import Results
from protos.kit.kinds import Kind


class Quarantine:
    """May be called from any thread, and in any number of processes at once."""

    def __init__(self, database: Database, known_version: KnownVersions, takers: Takers | None = None) -> None:
        self._database = database
        self._takers = dict(takers or {})
        self._reader = Reader(known_version, self._takers)

    def page(
        self, limit: int, before: int | None = None, device: str | None = None, kind: Kind | None = None
    ) -> Sequence[Quarantined]:
        """At most `limit` batches, newest first, set aside before the one of the number `before`. None: any."""
        with self._database.reading() as connection:
            return store_quarantine.page(connection, limit, before, device, kind)

    def payload(self, number: int) -> bytes:
        """The bytes of a batch, as they came. Raises UnknownBatch."""
        return self._find(number).payload

    def retry(self, number: int) -> Retried:
        """Store a batch if it can be stored by now, else keep it with the newest reason. Raises UnknownBatch.

        Its rows get the numbers under which it was set aside and the time at which it came, and are no longer counted
        as quarantined: all in the transaction that takes it out of quarantine, so that of several who try one does it.
        """
        aside = self._find(number)
        read = self._reader.read(aside.kind, aside.payload, aside.skip + aside.count)
        with self._database.transaction() as connection:  # alone: nobody else names sources or makes consumers
            return self._settle(connection, aside, read)

    def _find(self, number: int) -> Aside:
        with self._database.reading() as connection:
            found = store_quarantine.find(connection, number)
        if found is None:
            raise UnknownBatch(f"there is no batch {number} in quarantine")
        return found

    def _settle(self, connection: Transaction, aside: Aside, read: Read) -> Retried:
        if isinstance(read, Results):
            store.make_days(connection, [aside.received_ms // DAY_MS])
        before = store.lock(connection, [aside.stream])[aside.stream]
        after, reason = rules.take_back(before, aside, read if isinstance(read, str) else "")
        if reason:
            there = store_quarantine.say(connection, aside.id, reason)
        else:
            there = store_quarantine.remove(connection, aside.id)
        if not there:
            raise UnknownBatch(f"batch {aside.id} is in quarantine no more: somebody else was faster")
        if reason:
            return Retried(aside.id, 0, reason)
        self._store(connection, aside, read, after)
        return Retried(aside.id, aside.count)

    def _store(self, connection: Transaction, aside: Aside, read: Read, after: StreamState) -> None:
        blocks = []
        if isinstance(read, Results):
            names = store.Names().learn(connection, [(aside.device, read)])
            new = read.without_first(aside.skip)
            blocks = [names.block(aside.stream, aside.device, aside.first_seq, new)]
            store_consumers.give_back(connection, aside.stream, aside.first_seq, aside.last_seq)
        elif isinstance(read, list):
            arrived = Arrived(aside.device, aside.stream, aside.first_seq, read[aside.skip :])
            self._takers[aside.kind].write(connection, [arrived], aside.received_ms)
        store.write(connection, blocks, {aside.stream: after}, aside.received_ms)
