"""Two ingests on one database, a device that comes to either again and again, its old connections still under way."""

from __future__ import annotations

import random
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from sqlalchemy import func, select
from test_cloud_uplink_service import NOW_MS, known, payload

from cloud.foundation.database import Database
from cloud.uplink import rules, tables
from cloud.uplink.entities import Fate, Opened, Outcome, ReceivedBatch
from cloud.uplink.service import Ingest

TOTAL = 120


@dataclass
class Connection:
    """What a device has sent over one connection, in its order, and the replica has not yet taken."""

    replica: Ingest
    opened: Opened
    previous: int
    under_way: deque[ReceivedBatch] = field(default_factory=deque)

    def send(self, chance: random.Random) -> None:
        """A few batches from the watermark that it was welcomed with, or from below: what is sent may be doubled."""
        first = max(1, self.opened.watermark + 1 - chance.randrange(5))
        while first <= TOTAL and chance.random() < 0.9:
            count = min(chance.randint(1, 9), TOTAL + 1 - first)
            data = payload(first, [1] * count)
            batch = ReceivedBatch(self.opened.stream, "edge-1", first, count, data, self.previous)
            self.previous = rules.handed_in(batch)
            self.under_way.append(batch)
            first += count


def taken_together(connections: list[Connection], replica: Ingest, chance: random.Random) -> list[ReceivedBatch]:
    """One commit's batches, from all connections to a replica; one fails sometimes before it is committed."""
    taken = []
    for connection in connections:
        if connection.replica is replica:
            while connection.under_way and chance.random() < 0.7:
                batch = connection.under_way.popleft()
                if chance.random() < 0.1:
                    continue  # a commit failed, and a later one of the same connection goes on
                taken.append(batch)
    return taken


def highest(outcomes: list[Outcome]) -> int:
    return max((o.watermark for o in outcomes if o.fate is not Fate.DETACHED), default=0)


@pytest.mark.parametrize("seed", range(4))
def test_delayed_doubled_and_reordered_across_connections_everything_is_stored_once(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    replicas = [Ingest(database, known) for _ in range(2)]
    connections: list[Connection] = []
    acknowledged = 0
    with ThreadPoolExecutor(2) as threads:
        while acknowledged < TOTAL:
            replica = chance.choice(replicas)
            opened = replica.open("edge-1", 7)
            assert opened.watermark >= acknowledged
            connections.append(Connection(replica, opened, opened.watermark))
            connections[-1].send(chance)
            chance.shuffle(connections)
            arriving = [taken_together(connections, one, chance) for one in replicas]
            committed = threads.map(lambda one, batches: one.commit(batches, NOW_MS), replicas, arriving)
            acknowledged = max(acknowledged, *map(highest, committed))
    with database.reading() as reading:
        stored = list(reading.execute(select(tables.results.c.seq).order_by("seq")).scalars())
        assert stored == list(range(1, TOTAL + 1))
        assert reading.execute(select(tables.streams.c.skipped)).scalar_one() == 0
        for account in (tables.result_minutes, tables.result_minute_labels):
            assert reading.execute(select(func.sum(account.c.results))).scalar_one() == TOTAL
