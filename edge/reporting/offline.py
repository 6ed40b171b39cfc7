"""The status of a device whose agent does not run, read from its data folder. Changes nothing of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from edge.models.service import ModelStore
from edge.reporting import rules
from edge.update import record
from edge.update.entities import Progress, Running, Update
from edge.update.memory import Memory
from edge.update.tables import Tables
from edge.uplink.entities import OutboxFailed
from edge.uplink.outbox import Outbox
from protos.topics import DEFAULT_SLOT


def status(folder: Path, models: Path, outbox: Path) -> dict[str, object]:
    """As the running agent would tell it; what it would serve with is what is committed."""
    names = sorted(_slots(folder) or {DEFAULT_SLOT}, key=lambda name: (name != DEFAULT_SLOT, name))
    main, *others = ({"slot": name, **_slot(Memory(folder, name).path, models / name)} for name in names)
    return {"uplink": "waiting", "alarms": [], **main, "others": others, "outbox": _depth(outbox)}


def _slots(folder: Path) -> set[str]:
    """Slots of which something is remembered here."""
    return {path.name.removeprefix("update-").removesuffix(".json") for path in folder.glob("update-*.json")}


def _slot(update_file: Path, models: Path) -> dict[str, object]:
    update, notice = _update(update_file)
    running = _running(models)
    table = Tables(models).of(running.manifest) if running else None
    return rules.status(update, notice, running, Progress(), table=table)


def _update(file: Path) -> tuple[Update, str]:
    try:
        return record.decode(file.read_bytes()), ""
    except FileNotFoundError:
        return Update(), ""
    except record.Unreadable as error:
        return Update(), str(error)


def _running(models: Path) -> Running | None:
    installed = ModelStore(models).running()
    if installed is None:
        return None
    manifest = installed.manifest
    return Running(manifest.model, manifest.version, installed.digest, installed.variant.name)


def _depth(file: Path) -> dict[str, int] | None:
    """None if it cannot be told, since the file is in use or damaged."""
    if not file.exists():
        return {"rows": 0, "bytes": 0, "dropped": 0}
    try:
        outbox = Outbox.open(file, max_bytes=2**62)
    except OutboxFailed:
        return None
    try:
        return asdict(outbox.depth())
    finally:
        outbox.close()
