"""What models lie on this device, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge.foundation import clock
from edge.models import places
from edge.models.entities import Kept

COLUMNS = ("slot", "place", "role", "model", "version", "variant", "bytes", "manifest", "since")


def inventory(models: Path) -> list[dict[str, object]]:
    """One mapping for each place of each slot below `models`."""
    return [_described(kept) for slot in places.slots(models) for kept in places.kept(models, slot)]


def row(described: Mapping[str, object]) -> list[str]:
    """One place in a table with COLUMNS."""
    shown = dict(described) | {"since": clock.text(int(str(described["placed_ms"]))) if described["placed_ms"] else ""}
    shown["manifest"] = str(shown["manifest"])[:12]
    if described["damaged"]:
        shown["model"] = "damaged"
    return [str(shown[name]) for name in COLUMNS]


def _described(kept: Kept) -> dict[str, object]:
    installed = kept.installed
    return {
        "slot": kept.slot,
        "place": kept.name,
        "role": kept.role,
        "model": installed.manifest.model if installed else "",
        "version": installed.manifest.version if installed else "",
        "variant": kept.place.variant if kept.place else "",
        "bytes": installed.variant.artifact.size if installed else "",
        "manifest": kept.place.manifest if kept.place else "",
        "artifact": installed.variant.artifact.digest.hex() if installed else "",
        "created_ms": installed.manifest.created_ms if installed else 0,
        "placed_ms": kept.placed_ms,
        "damaged": kept.place is not None and installed is None,
    }
