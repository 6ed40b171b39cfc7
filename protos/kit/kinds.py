"""What arrives once, each kind with an outbox, an epoch and numbers of its own."""

from __future__ import annotations

from enum import IntEnum

from protos.v1 import uplink_pb2


class Kind(IntEnum):
    """By its number on the wire."""

    RESULTS = uplink_pb2.KIND_RESULTS
    EVENTS = uplink_pb2.KIND_EVENTS
    TELEMETRY = uplink_pb2.KIND_TELEMETRY

    def __str__(self) -> str:
        """Its name in sentences, commands and addresses."""
        return self.name.lower()
