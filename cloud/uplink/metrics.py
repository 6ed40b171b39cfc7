"""What Prometheus is told of the ingest."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram

from cloud.uplink.entities import Fate, Outcome, ReceivedBatch
from protos.kit.kinds import Kind

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)

STREAMS = Gauge("littoral_uplink_streams", "Devices that stream now.")
_BY = ["fate", "kind"]
BATCHES = Counter("littoral_uplink_batches", "Batches, by what became of them and by what they are of.", _BY)
ROWS = Counter("littoral_uplink_rows", "What is in batches, by what became of its batch and by what it is.", _BY)
COMMIT_SECONDS = Histogram("littoral_uplink_commit_seconds", "Time of one merged transaction.", buckets=SECONDS)
COMMIT_ROWS = Histogram("littoral_uplink_commit_rows", "Rows of all kinds merged into one transaction.", buckets=SIZES)
LATENCY_SECONDS = Histogram(
    "littoral_uplink_latency_seconds", "From a batch's arrival to its commit: what its device waits.", buckets=SECONDS
)
WAITING_BYTES = Gauge("littoral_uplink_waiting_bytes", "Size of the batches that wait for a transaction.")
DELAYS = Counter("littoral_uplink_delays", "Devices told to send nothing for a while, by the reason.", ["reason"])

for fate in set(Fate) - {Fate.NOTED}:  # so that each is there from the start, with 0
    for kind in Kind:
        BATCHES.labels(fate.value, str(kind))
        ROWS.labels(fate.value, str(kind))
for reason in ("database", "quota"):
    DELAYS.labels(reason)


def committed(batches: Sequence[ReceivedBatch], outcomes: Sequence[Outcome], seconds: float) -> None:
    """Count one transaction."""
    counts: Tally[tuple[Fate, Kind]] = Tally()
    rows: Tally[tuple[Fate, Kind]] = Tally()
    for batch, outcome in zip(batches, outcomes, strict=True):
        counts[outcome.fate, batch.kind] += 1
        rows[outcome.fate, batch.kind] += batch.rows
    for (fate, kind), count in counts.items():
        if fate is not Fate.NOTED:
            BATCHES.labels(fate.value, str(kind)).inc(count)
            ROWS.labels(fate.value, str(kind)).inc(rows[fate, kind])
    COMMIT_SECONDS.observe(seconds)
    COMMIT_ROWS.observe(sum(rows[Fate.STORED, kind] for kind in Kind))
