"""The newest deployment's Update on disk."""

from __future__ import annotations

from pathlib import Path

import structlog

from edge.update import record
from edge.update.entities import Update
from protos.kit.files import write_durably

log = structlog.get_logger()


class Memory:
    """One slot's Update in one file."""

    def __init__(self, folder: Path, slot: str) -> None:
        self.path = folder / f"update-{slot}.json"

    def load(self) -> Update:
        """What was saved last. A damaged file is set aside, and the device begins anew with what is desired now."""
        try:
            return record.decode(self.path.read_bytes())
        except FileNotFoundError:
            return Update()
        except record.Unreadable as error:
            log.error("the remembered update is set aside", path=str(self.path), error=str(error))
            self.path.replace(self.path.with_name(f"{self.path.name}.damaged"))
            return Update()

    def save(self, update: Update) -> None:
        """Durable when it returns. Raises OSError; then the former is still there."""
        write_durably(self.path, record.encode(update))
