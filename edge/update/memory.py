"""The newest deployment's Update on disk, and beside it the highest generation, which damage to it must not lower."""

from __future__ import annotations

from pathlib import Path

import structlog

from edge.update import record
from edge.update.entities import Update
from protos.kit.files import write_durably

log = structlog.get_logger()


class Memory:
    """One slot's Update in one file. floor: the highest generation that was ever accepted, kept in another one.

    Without it whoever can damage the first file could have a deployment of long ago carried out again.
    """

    def __init__(self, folder: Path, slot: str) -> None:
        self.path = folder / f"update-{slot}.json"
        self.floor_path = folder / f"generation-{slot}"
        self.floor = 0

    def load(self) -> Update:
        """What was saved last. A damaged file is set aside, and the device begins anew with what is desired now."""
        self.floor = self._read_floor()
        try:
            update = record.decode(self.path.read_bytes())
        except FileNotFoundError:
            return Update()
        except record.Unreadable as error:
            log.error("the remembered update is set aside", path=str(self.path), error=str(error))
            self.path.replace(self.path.with_name(f"{self.path.name}.damaged"))
            return Update()
        self.floor = max(self.floor, update.generation)
        return update

    def save(self, update: Update) -> None:
        """Durable when it returns. Raises OSError; then the former is still there."""
        if update.generation > self.floor:
            write_durably(self.floor_path, b"%d\n" % update.generation)
            self.floor = update.generation
        write_durably(self.path, record.encode(update))

    def _read_floor(self) -> int:
        try:
            return int(self.floor_path.read_text())
        except FileNotFoundError:
            return 0  # none accepted yet, or by an agent that kept it in one place only
        except (OSError, ValueError) as error:
            log.error("the highest generation cannot be read", path=str(self.floor_path), error=str(error))
            return 0
