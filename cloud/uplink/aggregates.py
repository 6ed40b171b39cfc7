"""What results add to the account of their minute, by source and model version: counts, sums and histograms.

Kept as results arrive, so that a question about millions of them reads some rows for each minute. The minute is that of
the cloud's clock: a minute that is over never changes, and no device's clock can write into the future.

numpy over all rows of a commit at once, no Python object for a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.uplink.entities import Block

MINUTE_MS = 60_000
LATENCY_BINS = 21
_FIRST_BITS = 4
LATENCY_EDGES_US = tuple(2 ** (_FIRST_BITS + i) for i in range(LATENCY_BINS - 1))
"""Bin i holds what is below edge i and not below the edge before; the last what is not below the last edge (8.4 s)."""

CONFIDENCE_BINS = 10
LATENCIES = tuple(f"latency_{i:02}" for i in range(LATENCY_BINS))
CONFIDENCES = tuple(f"confidence_{i}" for i in range(CONFIDENCE_BINS))
"""Bin i holds i/10 <= confidence < (i+1)/10; the last 1.0, too."""

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Added:
    """What results add: columns as the tables `result_minutes` and `result_minute_labels` have them.

    Rows are in the order of the tables' keys: all who add them lock them in that order, and no two wait in a ring.
    """

    minutes: Columns
    labels: Columns


def added(blocks: Sequence[Block], now_ms: int) -> Added:
    """The sums over all results of the blocks, which are received at `now_ms`. There must be a result."""
    pairs = sorted({(block.source, block.version) for block in blocks})
    group_of = {pair: i for i, pair in enumerate(pairs)}
    counts = [len(block.results) for block in blocks]
    group = np.repeat([group_of[block.source, block.version] for block in blocks], counts)
    label = np.concatenate([block.results.label for block in blocks])
    latency = np.concatenate([block.results.latency_us for block in blocks])
    confidence = np.concatenate([block.results.confidence for block in blocks]).astype(np.float64).clip(0, 1)
    keys = np.array(pairs, np.int64).reshape(-1, 2)
    minute = now_ms // MINUTE_MS
    return Added(
        _minutes(keys, minute, group, latency, confidence),
        _labels(keys, minute, group, label, confidence),
    )


def _minutes(
    keys: NDArray[np.int64],
    minute: int,
    group: NDArray[np.int64],
    latency: NDArray[np.uint32],
    confidence: NDArray[np.float64],
) -> Columns:
    groups = len(keys)
    latencies = _histogram(group, groups, latency_bin(latency), LATENCY_BINS)
    confidences = _histogram(group, groups, confidence_bin(confidence), CONFIDENCE_BINS)
    return {
        "minute": np.full(groups, minute),
        "source": keys[:, 0],
        "version": keys[:, 1],
        "results": np.bincount(group, minlength=groups),
        "latency_us": np.bincount(group, latency, groups).astype(np.int64),
        "confidence": np.bincount(group, confidence, groups),
        **dict(zip(LATENCIES, latencies.T, strict=True)),
        **dict(zip(CONFIDENCES, confidences.T, strict=True)),
    }


def _labels(
    keys: NDArray[np.int64],
    minute: int,
    group: NDArray[np.int64],
    label: NDArray[np.uint16],
    confidence: NDArray[np.float64],
) -> Columns:
    both = (group << 16) | label
    found, place, counts = np.unique(both, return_inverse=True, return_counts=True)
    return {
        "minute": np.full(len(found), minute),
        "source": keys[found >> 16, 0],
        "version": keys[found >> 16, 1],
        "label": found & 0xFFFF,
        "results": counts,
        "confidence": np.bincount(place, confidence, len(found)),
    }


def latency_bin(latency_us: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The bin of each latency: by the number of its bits."""
    bits = np.frexp(latency_us.astype(np.float64))[1].astype(np.int64)
    return (bits - _FIRST_BITS).clip(0, LATENCY_BINS - 1)


def confidence_bin(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each confidence, 0 to 1."""
    return (confidence * CONFIDENCE_BINS).astype(np.int64).clip(0, CONFIDENCE_BINS - 1)


def _histogram(group: NDArray[np.int64], groups: int, place: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """(groups, bins): how often each bin is in each group."""
    return np.bincount(group * bins + place, minlength=groups * bins).reshape(groups, bins)
