"""The status of a device whose agent does not run, read from its data folder. Changes nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from edge.models import places
from edge.models.entities import Installed
from edge.reporting import rules
from edge.reporting.service import STATUS_NAMES
from edge.update import record
from edge.update import rules as update_rules
from edge.update.entities import Progress, Recalled, Running, Update
from edge.update.memory import Memory
from edge.update.tables import Tables
from edge.uplink import peek
from protos.kit.kinds import Kind
from protos.topics import DEFAULT_SLOT, is_shadow


def status(folder: Path, models: Path, outboxes: Mapping[Kind, Path]) -> dict[str, object]:
    """As the running agent would tell it; what it would serve with is what is committed."""
    names = sorted(_slots(folder) or {DEFAULT_SLOT}, key=lambda name: (name != DEFAULT_SLOT, name))
    main, *others = ({"slot": name, **_slot(Memory(folder, name).path, models / name)} for name in names)
    waiting = {STATUS_NAMES[kind]: _depth(file) for kind, file in outboxes.items()}
    return {"uplink": "waiting", "alarms": [], **main, "others": others, **waiting}


def _slots(folder: Path) -> set[str]:
    """Slots of which something is remembered here."""
    names = (path.name.removeprefix("update-").removesuffix(".json") for path in folder.glob("update-*.json"))
    return {name for name in names if not is_shadow(name)}


def _slot(update_file: Path, models: Path) -> dict[str, object]:
    update, notice = _update(update_file)
    installed = places.committed(models)
    found = update_rules.discrepancy(update, places.recalled(models), installed.digest if installed else b"")
    if isinstance(found, Recalled):  # told to go back, and ended before that was remembered
        update, _ = update_rules.decide(update, found, update.since_ms)
    table = Tables(models).of(installed.digest) if installed else None
    return rules.status(update, notice, _running(installed), Progress(), table=table)


def _update(file: Path) -> tuple[Update, str]:
    try:
        return record.decode(file.read_bytes()), ""
    except FileNotFoundError:
        return Update(), ""
    except record.Unreadable as error:
        return Update(), str(error)


def _running(installed: Installed | None) -> Running | None:
    if installed is None:
        return None
    manifest = installed.manifest
    return Running(manifest.model, manifest.version, installed.digest, installed.variant.name)


def _depth(file: Path) -> dict[str, int] | None:
    depth = peek.depth(file)
    return asdict(depth) if depth else None
