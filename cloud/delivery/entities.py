"""What delivery speaks of: bundles on a broker, and devices' requests for chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class BadRequest(ValueError):
    """A repair request that asks for nothing that can be sent. Ignore it."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a device needs besides its deployment: a manifest, and the chunks of each of its artifacts."""

    manifest: bytes
    """The manifest's digest."""
    signed: bytes
    """The signed manifest as it is published."""
    artifacts: Mapping[bytes, int]
    """How many chunks each artifact has, by its digest."""


@dataclass(slots=True)
class Held:
    """A bundle that is on the broker, wholly or in part."""

    bundle: Bundle
    needed_ms: int
    """When a device was last known to need it."""
    confirmed: bool = False
    """Whether the broker has the manifest: it acknowledged it, or showed it, on the present connection."""
    doubted_ms: int = 0
    """Until then a broker that was connected again may still show that it has kept the bundle."""
    retry_ms: int = 0
    """Not before then is a publication tried again that failed."""
