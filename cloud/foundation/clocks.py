"""What can be told of a clock that is not ours, from a time that it shows."""

from __future__ import annotations

AHEAD_MS = 300_000
"""A device's clock may be so far ahead of ours, or of another server's."""
EARLIEST_MS = 1_767_225_600_000
"""2026-01-01: there was no device of ours before, so a clock that shows less was never set."""
