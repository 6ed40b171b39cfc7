"""Rows that devices number, besides results: what the uplink takes of a room, and hands to it.

The uplink owns the numbers: it knows which rows are new, moves the watermark in the transaction that writes them,
audits them and drops them when they are old. The room owns the rows: what their bytes mean, the table that they are in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Table

from cloud.foundation.database import Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arrived(Generic[T]):
    """What is new of a device's batch: rows with the numbers first_seq, first_seq + 1, ... of a stream."""

    device: str
    stream: int
    first_seq: int
    rows: Sequence[T]


class Taker(Protocol[T]):
    """A room that keeps rows of one kind."""

    @property
    def table(self) -> Table:
        """Where they are: with columns `stream`, `seq` and `received_ms`, and the first two as its key."""

    def read(self, payload: bytes, count: int) -> list[T]:
        """The `count` rows of a batch. Raises `protos.kit.columns.Malformed` with the reason if they are none.

        It is asked outside of any transaction.
        """

    def write(self, transaction: Transaction, arrived: Sequence[Arrived[T]], now_ms: int) -> None:
        """Add rows, of several devices and received now, in the transaction that moves their watermarks.

        Others write beside it: rows that it changes are locked in one order, always the same.
        """
