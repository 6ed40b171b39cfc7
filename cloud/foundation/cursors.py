"""Where a page ended, as an opaque word for URLs: the key of its last row."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

LARGEST = 2**63
LARGEST_ID = 2**31


def as_cursor(key: Sequence[int]) -> str:
    """The word for a key."""
    return base64.urlsafe_b64encode(json.dumps(list(key)).encode()).decode().rstrip("=")


def from_cursor(cursor: str, below: Sequence[int]) -> list[int]:
    """The key that a word stands for: as many numbers as there are bounds, each below its own. Raises ValueError."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        numbers = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise ValueError(_NO_CURSOR.format(cursor[:64])) from error
    if not isinstance(numbers, list) or len(numbers) != len(below) or not all(map(is_below, below, numbers)):
        raise ValueError(_NO_CURSOR.format(cursor[:64]))
    return numbers


def is_below(bound: int, number: object) -> bool:
    """Whether this is a number that fits into its column."""
    return type(number) is int and 0 <= number < bound


_NO_CURSOR = "cursor {!r} is none that a page ended with: ask for the first page, without one"
