"""What time it is at least, on a device whose clock may stand at 1970."""

from __future__ import annotations

import time
from datetime import UTC, datetime

EARLIEST_MS = 1_767_225_600_000
"""2026-01-01: this code did not exist before, so a clock that shows less is wrong."""


def now_ms() -> int:
    """Unix time by this device's clock, which may be wrong."""
    return time.time_ns() // 1_000_000


def at_least(now_ms: int, *known_ms: int) -> int:
    """Real time is at least that of this code and of everything that a trusted key has dated; the latest counts."""
    return max(now_ms, EARLIEST_MS, *known_ms)


def text(unix_ms: int) -> str:
    """A Unix time for people."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"
