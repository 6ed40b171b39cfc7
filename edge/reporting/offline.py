"""The status of a device whose agent does not run, read from its data folder. Changes nothing of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from edge.models import places
from edge.reporting import rules
from edge.update import record
from edge.update.entities import Progress, Running, Update
from edge.uplink.entities import OutboxFailed
from edge.uplink.outbox import Outbox


def status(update_file: Path, models: Path, outbox: Path) -> dict[str, object]:
    """As the running agent would tell it; what it would serve with is what is committed."""
    update, notice = _update(update_file)
    return {
        "uplink": "waiting",
        "alarms": [],
        **rules.status(update, notice, _running(models), Progress()),
        "outbox": _depth(outbox),
    }


def _update(file: Path) -> tuple[Update, str]:
    try:
        return record.decode(file.read_bytes()), ""
    except FileNotFoundError:
        return Update(), ""
    except record.Unreadable as error:
        return Update(), str(error)


def _running(models: Path) -> Running | None:
    installed = places.committed(models)
    return Running(installed.manifest.model, installed.manifest.version, installed.digest) if installed else None


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
