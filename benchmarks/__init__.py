"""Benchmarks: each module here is one, `python -m benchmarks NAME` runs it. Every measure has its baseline."""
