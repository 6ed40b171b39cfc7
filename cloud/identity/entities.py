"""What can go wrong with the cloud's keys."""

from __future__ import annotations


class KeysFailed(Exception):
    """The signing keys cannot be used; the message says which file, why, and what to do."""
