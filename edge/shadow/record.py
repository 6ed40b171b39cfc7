"""The comparison on disk: what was counted, and whether the challenger has ended, outlive the agent."""

from __future__ import annotations

from pathlib import Path

import structlog
from google.protobuf.message import DecodeError

from protos.kit.files import write_durably
from protos.v1.sketches_pb2 import Comparison

log = structlog.get_logger()


class Record:
    """One slot's comparison in one file."""

    def __init__(self, folder: Path, slot: str) -> None:
        self._path = folder / f"comparison-{slot}.pb"

    def load(self) -> Comparison:
        """What was saved last; an empty one if there is none, or it cannot be read."""
        try:
            return Comparison.FromString(self._path.read_bytes())
        except FileNotFoundError:
            return Comparison()
        except (OSError, DecodeError) as error:
            log.error("the comparison with a challenger begins anew", path=str(self._path), error=str(error))
            return Comparison()

    def save(self, comparison: Comparison) -> None:
        """Durable when it returns. Raises OSError; then the former is still there."""
        write_durably(self._path, comparison.SerializeToString())
