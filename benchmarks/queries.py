"""What is asked about results, beside asking the results themselves: seconds until the answer, on PostgreSQL.

`dashboard`: counts, confidence and latency by hour and device, of 3 million results that were stored as the ingest
stores them, over six hours; the baseline asks the same of the results, by GROUP BY. `page_1000`: the thousandth page of
a hundred results; the baseline is the first. `page_of_device`: a hundred results of one device with one label and low
confidence; the baseline is the first page of all. `consumer`: a reading of a thousand results, acknowledged; the
baseline is the first page of all.

`dashboard_100m_…`: the account as 100 million results leave it (its rows are real, the results are not stored), from 10
devices with 100 results a second over 28 hours, and from 1,000 with 10 a second over 3 hours; ten classes each. The
limit is a second. Each is the median of several, after one that is not counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.kit.devices import results
from benchmarks.kit.measures import Measure, Measures
from cloud.foundation.database import Database, Transaction
from cloud.uplink import store, store_aggregates
from cloud.uplink.aggregates import CONFIDENCES, LATENCIES, MINUTE_MS, Added
from cloud.uplink.consumers import Consumers
from cloud.uplink.consuming import Start
from cloud.uplink.entities import Block, StreamState
from cloud.uplink.queries import Queries
from cloud.uplink.questions import Bucket, Group, Place, Which
from cloud.uplink.rules import days_to_make
from protos.kit.columns import Results
from protos.kit.kinds import Kind
from simulators.postgresql import cluster

DEVICES = 20
ROWS = 3_000_000
TRANSACTION = 5_000
HOURS = 6
BEGIN_MS = 20_000 * 86_400_000
REPEATS = 7
PAGE = 100
LIMIT_S = 1.0
BY_RESULTS = """
SELECT received_ms / 3600000, device, count(*), avg(confidence), avg(latency_us)
FROM results r JOIN result_sources s ON s.id = r.source GROUP BY 1, 2 ORDER BY 1, 2
"""


def run() -> Measures:
    """Results first, then accounts of as many as could not be stored here."""
    with cluster(durable=False) as server:
        measures = of_results(Database(server.new_database()))
        for devices, rate in ((10, 100), (1_000, 10)):
            taken = of_account(Database(server.new_database()), devices, rate)
            measures[f"dashboard_100m_{devices}_devices"] = Measure(taken, "s", LIMIT_S, "<= 1.0")
    return measures


def of_results(database: Database) -> dict[str, Measure]:
    """Questions about results that are there."""
    database.create()
    fill(database)
    queries, consumers = Queries(database), Consumers(database)
    deep = thousandth(queries)
    asked = {
        "dashboard": seconds(lambda: queries.account(Which(), Bucket.HOUR, [Group.DEVICE])),
        "first": seconds(lambda: queries.results(Which(), limit=PAGE)),
        "page_1000": seconds(lambda: queries.results(Which(), deep, PAGE)),
        "page_of_device": seconds(
            lambda: queries.results(Which(device="edge-7", label=3, max_confidence=0.1), limit=PAGE)
        ),
    }
    consumers.create("bench", Start.EARLIEST, BEGIN_MS)
    asked["consumer"] = seconds(lambda: read_on(consumers))
    with database.reading() as connection:
        by_results = seconds(lambda: connection.exec_driver_sql(BY_RESULTS).all(), 3)
    first = asked.pop("first")
    baselines = {"dashboard": by_results}
    return {name: Measure(value, "s", baselines.get(name, first)) for name, value in asked.items()}


def of_account(database: Database, devices: int, rate: int) -> float:
    """Seconds for a dashboard over the account of 100 million results."""
    database.create()
    minutes = 100_000_000 // (devices * rate * 60) + 1
    with database.transaction() as connection:
        names(connection, devices)
        for minute in range(minutes):
            store_aggregates.keep(connection, of_minute(BEGIN_MS // MINUTE_MS + minute, devices, rate * 60))
    with database.transaction() as connection:
        connection.exec_driver_sql("ANALYZE")
    queries = Queries(database)
    taken = seconds(lambda: queries.account(Which(), Bucket.HOUR, [Group.VERSION, Group.LABEL]))
    print(f"100 million results of {devices} devices: by label {taken:.3f} s")
    return max(taken, seconds(lambda: queries.account(Which(), Bucket.HOUR)))


def of_minute(minute: int, devices: int, count: int) -> Added:
    """What one minute leaves: `count` results of each device, spread over ten labels, ten latencies and confidences."""
    sources = np.arange(1, devices + 1)
    whole = {"minute": np.full(devices, minute), "source": sources, "version": np.ones(devices, np.int64)}
    spread = {name: np.full(devices, count // 10) for name in (*LATENCIES[3:13], *CONFIDENCES)}
    empty = {name: np.zeros(devices, np.int64) for name in LATENCIES if name not in spread}
    sums = {
        "results": np.full(devices, count),
        "latency_us": np.full(devices, count * 200),
        "confidence": np.full(devices, count / 2),
    }
    labels = {
        **{name: np.repeat(column, 10) for name, column in whole.items()},
        "label": np.tile(np.arange(10), devices),
        "results": np.full(devices * 10, count // 10),
        "confidence": np.full(devices * 10, count / 20),
    }
    return Added({**whole, **sums, **spread, **empty}, labels)


def fill(database: Database) -> None:
    """Results of all devices, received over some hours; stored as the ingest stores them."""
    with database.transaction() as connection:
        streams = names(connection, DEVICES)
        store.make_days(connection, days_to_make(BEGIN_MS))
    each, transactions = TRANSACTION // DEVICES, ROWS // TRANSACTION
    for number in range(transactions):
        first = 1 + number * each
        blocks = [Block(streams[i], first, i + 1, 1, shuffled(results(first, each), i)) for i in range(DEVICES)]
        moved = {stream: StreamState(first + each - 1) for stream in streams}
        with database.beside() as connection:
            store.write(connection, blocks, moved, BEGIN_MS + number * HOURS * 3_600_000 // transactions)
        if number % 100 == 0:
            print(f"{number * TRANSACTION:,} of {ROWS:,} results stored")
    with database.transaction() as connection:
        connection.exec_driver_sql("ANALYZE")


def shuffled(read: Results, seed: int) -> Results:
    """As another device would have them."""
    return replace(read, label=np.roll(read.label, seed), confidence=np.roll(read.confidence, seed))


def names(connection: Transaction, devices: int) -> list[int]:
    """Streams and sources of devices, and one version; the streams' integers."""
    found = []
    for i in range(devices):
        store.begin_stream(connection, f"edge-{i}", Kind.RESULTS, 1)
        opened = store.find_stream(connection, f"edge-{i}", Kind.RESULTS, 1)
        assert opened is not None
        found.append(opened.stream)
    known = store.Names()
    known.learn(connection, [(f"edge-{i}", results(1, 1)) for i in range(devices)])
    return found


def thousandth(queries: Queries) -> Place:
    """Where the thousandth page begins."""
    after: Place | None = None
    for _ in range(100):
        after = queries.results(Which(), after, PAGE * 10).after
    assert after is not None
    return after


def read_on(consumers: Consumers) -> None:
    """One reading, dealt with."""
    reading = consumers.read("bench", 1_000)
    assert reading is not None
    consumers.acknowledge("bench", reading.ack, BEGIN_MS)


def seconds(ask: Callable[[], object], repeats: int = REPEATS) -> float:
    """Until the answer: the median."""
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])
