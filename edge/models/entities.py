"""A model on this device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protos.v1.manifest_pb2 import Manifest, Variant


@dataclass(frozen=True, slots=True)
class Installed:
    """A model whose manifest and file lie proven in one of the two places."""

    digest: bytes  # of the manifest
    manifest: Manifest
    variant: Variant
    path: Path  # of the variant's file


@dataclass(frozen=True, slots=True)
class Place:
    """What the journal says lies in one place."""

    manifest: str  # digest in hex
    variant: str


@dataclass(frozen=True, slots=True)
class Kept:
    """One place as people ask for it. role: committed, on trial, former, rolled back, spare or empty.

    installed: None if it is empty or no longer whole. placed_ms: Unix time when the model came into it.
    """

    slot: str
    name: str
    role: str
    place: Place | None = None
    installed: Installed | None = None
    placed_ms: int = 0


class WrongStep(Exception):
    """A step that makes no sense now: nothing is staged, or no trial runs. Nothing was changed."""
