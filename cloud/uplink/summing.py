"""How numbers that devices choose are summed up."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Double, cast, func


def total(number: ColumnElement[Any]) -> ColumnElement[Any]:
    """Its sum over all rows, 0 without any; exact below 2**53.

    Not by integers: a device may leave out almost 2**62 sequence numbers, and SQLite gives no answer at all once a sum
    is beyond 2**63.
    """
    return func.coalesce(func.sum(cast(number, Double)), 0)
