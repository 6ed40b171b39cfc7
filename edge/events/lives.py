"""Why the agent is up again: each life writes down how it ended, as far as it comes to that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from edge.foundation.events import Event, Severity
from protos.kit.files import write_durably

FILE = "life.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
IN_ORDER = "it was stopped in order"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Life:
    """boot: names the machine's start in which it ran. ended: how; empty: without a word."""

    version: str
    boot: str
    ended: str = ""


@contextmanager
def living(folder: Path, version: str) -> Iterator[Event]:
    """A life of the agent, of this version, on its data folder; yields what is to be told of its start."""
    path, life = folder / FILE, Life(version, _boot())
    before = _read(path)
    _write(path, life)
    try:
        yield started(before, life)
    except BaseException as error:
        _write(path, replace(life, ended=f"it failed: {_cause(error)}"))
        raise
    _write(path, replace(life, ended=IN_ORDER))


def started(before: Life | None, life: Life) -> Event:
    """What is to be told of a start after that life; None: it is the first one on the folder."""
    began = f"agent {life.version} started"
    if before is None:
        return Event("agent.started", f"{began}: the first time on this data folder")
    if before.version != life.version:
        began = f"{began} in place of {before.version}"
    severity = Severity.INFO if before.ended == IN_ORDER else Severity.WARNING
    return Event("agent.started", f"{began}: before, {before.ended or _without_a_word(before, life)}", severity)


def _without_a_word(before: Life, life: Life) -> str:
    if before.boot != life.boot:
        return "the machine went down under it: its power was cut, or it was started anew in a hurry"
    return "it ended without a word: it was killed, perhaps for want of memory, or crashed"


def _cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _read(path: Path) -> Life | None:
    try:
        told = json.loads(path.read_text())
        return Life(str(told["version"]), str(told["boot"]), str(told["ended"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, life: Life) -> None:
    try:
        write_durably(path, json.dumps(asdict(life)).encode())
    except OSError as error:
        log.warning("the next start will not know how this run ended", path=str(path), error=str(error))
