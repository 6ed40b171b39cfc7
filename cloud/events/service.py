"""Keeps what devices tell of, and finds it again."""

from __future__ import annotations

from collections.abc import Sequence

from cloud.events import rules, store
from cloud.events.entities import Event, Order, Page, Which
from cloud.foundation.arriving import Arrived
from cloud.foundation.database import Database, Transaction
from cloud.uplink.questions import Place
from cloud.uplink.store_queries import bounded


class Events:
    """All devices' events. May be used from any thread; several processes may share the database."""

    table = store.events

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, payload: bytes, count: int) -> list[Event]:
        """The events of a batch, as the uplink asks. Raises Malformed."""
        return rules.read(payload, count)

    def write(self, transaction: Transaction, arrived: Sequence[Arrived[Event]], now_ms: int) -> None:
        """Store what is new, in the uplink's transaction."""
        store.add(transaction, arrived, now_ms)

    def page(self, which: Which, after: Place | None, limit: int, order: Order = Order.NEWEST) -> Page:
        """Events behind `after`, at most `limit`. Raises InvalidQuestion if that takes too long to find."""
        with self._database.reading() as transaction, bounded(transaction):
            found = store.page(transaction, which, after, limit, order)
        return Page(found, found[-1].place if len(found) == limit else None)
