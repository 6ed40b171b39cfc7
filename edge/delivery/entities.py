"""What a delivery can come to."""

from __future__ import annotations

from enum import Enum


class Rejected(Exception):
    """What a trusted key signed can never become a usable artifact. Fetching it again would not help."""


class NotDelivered(TimeoutError):
    """What was asked for has not come for a long time. Ask again later: nothing that was received is lost."""


class Absent(Exception):
    """There is no such metadata file, by the word of whoever was asked."""


class Chunk(Enum):
    """What a received chunk turned out to be."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CORRUPT = "corrupt"  # not what the manifest promises at this place
