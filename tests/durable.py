"""What an outbox holds: the results that are durable, whoever was told of them."""

from __future__ import annotations

from pathlib import Path

from edge.uplink.outbox import Outbox
from protos.kit import columns

ALL = 1_000_000


def results(path: Path) -> list[tuple[int, int]]:
    """Frame and label of each, in the order of their commits. The outbox is nobody's now."""
    outbox = Outbox.open(path, 1 << 30)
    try:
        stored = [columns.decode(batch.payload, batch.count) for batch in outbox.after(0, ALL)]
    finally:
        outbox.close()
    return [pair for found in stored for pair in zip(found.frame.tolist(), found.label.tolist(), strict=True)]
