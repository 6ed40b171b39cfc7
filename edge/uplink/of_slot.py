"""The outbox as one of several slots sees it: a source may feed several of them, and has a watermark in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from edge.uplink.entities import NewBatch

SEPARATOR = "@"
"""No name of a source may hold it."""


class Results(Protocol):
    """Where results become durable: `Outbox`, or a slot's share of it."""

    def source_watermark(self, source: str) -> int:
        """The last frame of `source` that is settled for good; 0: none."""

    def append(self, batches: Sequence[NewBatch]) -> None:
        """Make all `batches` durable in one commit, or none: then OutboxFailed says why."""


class OfSlot:
    """It is `Results`."""

    def __init__(self, outbox: Results, slot: str) -> None:
        self._outbox = outbox
        self._slot = slot

    def source_watermark(self, source: str) -> int:
        """As `Results`, of what the source has handed to this slot."""
        return self._outbox.source_watermark(self._named(source))

    def append(self, batches: Sequence[NewBatch]) -> None:
        """As `Results`."""
        self._outbox.append([replace(batch, source=self._named(batch.source)) for batch in batches])

    def _named(self, source: str) -> str:
        return f"{source}{SEPARATOR}{self._slot}"
