"""Results from gRPC streams into the database, beside the bare database: rows a second, latency, memory.

`rows_postgresql`: client, gRPC, ingest, committed in PostgreSQL; from the first batch handed to gRPC to the last
acknowledgement. Its baseline is a `COPY ... FROM STDIN (FORMAT binary)` of rows that were encoded beforehand, into a
table with the same partitions and indexes, by one connection, 5,000 rows a transaction. `rows_sqlite`: the same with
SQLite, beside an `executemany` of tuples made beforehand, 5,000 a transaction. All sync every commit to the disk. Each
side writes 100,000 rows at a time, in turn, so that what else the machine does meets both; the rate is the
median. `…_small`: batches of 64 results, as a device makes them that infers one micro-batch after the other.

`p99_commit_seconds`: 1,000 streams, each a connection of its own, 10 results a second each, one batch a second; from
handing a batch to gRPC to its acknowledgement, on PostgreSQL. The baseline is the limit, 1 s. `server_mb`: the ingest's
resident memory while it serves them, the most there was; the baseline is before the first came.

Client, ingest and database share this machine.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
from sqlalchemy.engine import make_url

from benchmarks.kit.devices import Device, batches, results
from benchmarks.kit.ingest_server import Server, serving
from benchmarks.kit.measures import Measure, Measures
from cloud.foundation.database import Database
from cloud.uplink import store, store_postgresql, store_sqlite, tables
from cloud.uplink.copying import HEADER, TRAILER
from cloud.uplink.entities import Block
from cloud.uplink.rules import days_to_make
from simulators.postgresql import USER, cluster

ROUNDS = 10
ROUND_ROWS = 100_000
DEVICES = 10
BATCH = 500
SMALL = 64
TRANSACTION = 5_000
STREAMS = 1_000
STREAMS_ROWS = 10
STREAMS_S = 20
LIMIT_S = 1.0

Side = Callable[[int], float]
"""Writes its rows of one round, by the round's number; returns rows a second."""


def run() -> Measures:
    """PostgreSQL, SQLite, then the many streams."""
    measures: dict[str, Measure] = {}
    with cluster(durable=True) as server, tempfile.TemporaryDirectory() as folder:
        for name, size, goal in (("rows_postgresql", BATCH, ">= 0.5"), ("rows_postgresql_small", SMALL, "")):
            measures[name] = rows(name, server.new_database, bare_copy, size, goal)
        for name, size, goal in (("rows_sqlite", BATCH, ">= 0.3"), ("rows_sqlite_small", SMALL, "")):
            files = itertools.count()
            new_database = lambda: f"sqlite:///{folder}/{name}-{next(files)}.db"  # noqa: B023, E731 - used at once
            measures[name] = rows(name, new_database, bare_executemany, size, goal)
        with serving(server.new_database()) as ingest:
            measures |= asyncio.run(many_streams(ingest))
    return measures


def rows(name: str, new_database: Callable[[], str], bare: Callable[[str], Side], size: int, goal: str) -> Measure:
    """Rows a second of ours beside those of the bare database."""
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    with serving(new_database()) as ingest, asyncio.Runner() as runner:
        sides: dict[str, Side] = {
            "ours": lambda number: runner.run(stream(ingest.address, number, size)),
            "bare": bare(new_database()),
        }
        for number in range(ROUNDS):
            # The order changes, so that neither always follows the other.
            for side in sorted(sides, reverse=number % 2 == 0):
                rates[side].append(sides[side](number))
            print(f"{name} {number + 1}/{ROUNDS}: ours {rates['ours'][-1]:,.0f}, bare {rates['bare'][-1]:,.0f} rows/s")
    return Measure(statistics.median(rates["ours"]), "rows/s", statistics.median(rates["bare"]), goal)


async def stream(address: str, number: int, size: int) -> float:
    """The round's rows over gRPC, by several devices at once."""
    each = ROUND_ROWS // DEVICES // size * size
    ready = [batches(1 + number * each, each, size) for _ in range(DEVICES)]
    devices = [Device(address, f"edge-{i}") for i in range(DEVICES)]
    welcomed = asyncio.Barrier(DEVICES)
    began: list[float] = []

    async def use(device: Device) -> None:
        await welcomed.wait()
        began.append(time.perf_counter())
        for batch in ready[devices.index(device)]:
            await device.send(batch)
        await device.until_acknowledged()

    await asyncio.gather(*(device.run(use) for device in devices))
    return each * DEVICES / (time.perf_counter() - min(began))


def bare_copy(url: str) -> Side:
    """Rows encoded beforehand into PostgreSQL."""
    prepare(url)
    given = {name: str(value) for name, value in make_url(url).query.items()}
    connection = psycopg.connect(user=USER, **given)  # type: ignore[arg-type]
    now_ms = int(time.time() * 1000)

    def write(number: int) -> float:
        encoded = [
            b"".join((HEADER, store_postgresql.packed(blocks, now_ms), TRAILER)) for blocks in transactions(number)
        ]
        began = time.perf_counter()
        for data in encoded:
            with connection.cursor() as cursor, cursor.copy(store_postgresql.COPY) as copy:
                copy.write(data)
            connection.commit()
        return ROUND_ROWS / (time.perf_counter() - began)

    return write


def bare_executemany(url: str) -> Side:
    """Tuples made beforehand into SQLite."""
    prepare(url)
    connection = sqlite3.connect(str(make_url(url).database), isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    marks = ", ".join("?" * len(tables.results.c))
    now_ms = int(time.time() * 1000)

    def write(number: int) -> float:
        made = [
            [row for block in blocks for row in store_sqlite.rows(block, now_ms)] for blocks in transactions(number)
        ]
        began = time.perf_counter()
        for rows_of_one in made:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f"INSERT INTO results VALUES ({marks})", rows_of_one)
            connection.execute("COMMIT")
        return ROUND_ROWS / (time.perf_counter() - began)

    return write


def prepare(url: str) -> None:
    """The tables as the ingest makes them, room for today included."""
    database = Database(url)
    database.create()
    with database.transaction() as connection:
        store.make_days(connection, days_to_make(int(time.time() * 1000)))
    database.close()


def transactions(number: int) -> Iterator[list[Block]]:
    """The round's rows, each transaction with rows of all devices."""
    each = TRANSACTION // DEVICES
    for first in range(1 + number * ROUND_ROWS // DEVICES, 1 + (number + 1) * ROUND_ROWS // DEVICES, each):
        yield [Block(device, first, device, 1, results(first, each)) for device in range(1, DEVICES + 1)]


async def many_streams(ingest: Server) -> dict[str, Measure]:
    """A fleet that streams slowly."""
    idle_mb = ingest.memory_mb()
    devices = [Device(ingest.address, f"edge-{i}") for i in range(STREAMS)]
    connected = asyncio.Barrier(STREAMS)

    async def use(device: Device) -> None:
        ready = batches(1, STREAMS_ROWS * STREAMS_S, STREAMS_ROWS)
        await connected.wait()
        await asyncio.sleep(devices.index(device) / STREAMS)  # each at its own moment of the second
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, batch in enumerate(ready):
            await asyncio.sleep(began + number - loop.time())
            await device.send(batch)
        await device.until_acknowledged()

    await asyncio.gather(*(device.run(use) for device in devices))
    latencies_s = np.concatenate([device.latencies_s for device in devices])
    print(f"{STREAMS} streams: commit latency median {np.median(latencies_s):.3f} s, most {latencies_s.max():.3f} s")
    return {
        "p99_commit_seconds": Measure(float(np.quantile(latencies_s, 0.99)), "s", LIMIT_S, "<= 1.0"),
        "server_mb": Measure(ingest.memory_mb("VmHWM"), "MB", idle_mb),
    }
