"""The status of a device whose agent does not run, read from its data folder. Changes nothing of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from edge.models import places
from edge.models.entities import Installed
from edge.reporting import rules
from edge.update import record
from edge.update import rules as update_rules
from edge.update.entities import Progress, Recalled, Running, Update
from edge.uplink import peek


def status(update_file: Path, models: Path, outbox: Path) -> dict[str, object]:
    """As the running agent would tell it; what it would serve with is what is committed."""
    update, notice = _update(update_file)
    installed = places.committed(models)
    found = update_rules.discrepancy(update, places.recalled(models), installed.digest if installed else b"")
    if isinstance(found, Recalled):  # told to go back, and ended before that was remembered
        update, _ = update_rules.decide(update, found, update.since_ms)
    return {
        "uplink": "waiting",
        "alarms": [],
        **rules.status(update, notice, _running(installed), Progress()),
        "outbox": _depth(outbox),
    }


def _update(file: Path) -> tuple[Update, str]:
    try:
        return record.decode(file.read_bytes()), ""
    except FileNotFoundError:
        return Update(), ""
    except record.Unreadable as error:
        return Update(), str(error)


def _running(installed: Installed | None) -> Running | None:
    return Running(installed.manifest.model, installed.manifest.version, installed.digest) if installed else None


def _depth(file: Path) -> dict[str, int] | None:
    depth = peek.depth(file)
    return asdict(depth) if depth else None
