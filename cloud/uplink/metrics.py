"""What Prometheus is told of the ingest."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram

from cloud.uplink.entities import Fate, Outcome, ReceivedBatch

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)

STREAMS = Gauge("littoral_uplink_streams", "Devices that stream now.")
BATCHES = Counter("littoral_uplink_batches", "Batches of results, by what became of them.", ["fate"])
ROWS = Counter("littoral_uplink_rows", "Results in batches, by what became of their batch.", ["fate"])
COMMIT_SECONDS = Histogram("littoral_uplink_commit_seconds", "Time of one merged transaction.", buckets=SECONDS)
COMMIT_ROWS = Histogram("littoral_uplink_commit_rows", "Results merged into one transaction.", buckets=SIZES)
LATENCY_SECONDS = Histogram(
    "littoral_uplink_latency_seconds", "From a batch's arrival to its commit: what its device waits.", buckets=SECONDS
)
WAITING_BYTES = Gauge("littoral_uplink_waiting_bytes", "Size of the batches that wait for a transaction.")
DELAYS = Counter("littoral_uplink_delays", "Devices told to send nothing for a while, by the reason.", ["reason"])

for fate in set(Fate) - {Fate.NOTED}:  # so that each is there from the start, with 0
    BATCHES.labels(fate.value)
    ROWS.labels(fate.value)
for reason in ("database", "quota"):
    DELAYS.labels(reason)


def committed(batches: Sequence[ReceivedBatch], outcomes: Sequence[Outcome], seconds: float) -> None:
    """Count one transaction."""
    rows: Tally[Fate] = Tally()
    for batch, outcome in zip(batches, outcomes, strict=True):
        rows[outcome.fate] += batch.rows
    for fate, count in Tally(outcome.fate for outcome in outcomes if outcome.fate is not Fate.NOTED).items():
        BATCHES.labels(fate.value).inc(count)
        ROWS.labels(fate.value).inc(rows[fate])
    COMMIT_SECONDS.observe(seconds)
    COMMIT_ROWS.observe(rows[Fate.STORED])
