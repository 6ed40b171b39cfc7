"""The histogram of latencies that telemetry carries: its bounds are a part of the contract, and never change."""

from __future__ import annotations

BOUNDS_US = (
    *(100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
    *(1_000_000, 2_500_000, 10_000_000),
)
"""Bucket i counts what took up to bound i and longer than the bound before; one more bucket counts the rest."""

BUCKETS = len(BOUNDS_US) + 1
