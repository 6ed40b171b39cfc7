"""What is believed of what devices tell. Pure."""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError

from cloud.events.entities import Event, Severity
from protos.kit.columns import Malformed
from protos.topics import MAX_EVENT_TEXT, MAX_EVENTS, NAME
from protos.v1 import uplink_pb2

KIND = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
MAX_KIND = 63
MAX_INTEGER = 2**63 - 1


def read(payload: bytes, count: int) -> list[Event]:
    """The events of a batch. Raises Malformed that says which limit one breaks."""
    try:
        told = uplink_pb2.EventBatch.FromString(payload).events
    except DecodeError as error:
        raise Malformed("not an EventBatch") from error
    if len(told) != count or not 0 < count <= MAX_EVENTS:
        raise Malformed(f"{len(told)} events, the envelope says {count}, allowed are 1 to {MAX_EVENTS}")
    return [_event(one) for one in told]


def _event(told: uplink_pb2.Event) -> Event:
    if len(told.kind) > MAX_KIND or not KIND.fullmatch(told.kind):
        raise Malformed(f"event of kind {told.kind[:MAX_KIND]!r}: a kind is two or more words with dots between them")
    for what, name in (("slot", told.slot), ("model", told.model)):
        if name and not NAME.fullmatch(name):
            raise Malformed(f"event {told.kind}: {what} {name[:64]!r} is not a name")
    if len(told.text) > MAX_EVENT_TEXT:
        raise Malformed(f"event {told.kind}: text of {len(told.text)} characters, at most {MAX_EVENT_TEXT} are taken")
    return Event(
        happened_ms=min(told.happened_ms, MAX_INTEGER),
        kind=told.kind,
        severity=Severity(min(max(told.severity, Severity.INFO), Severity.ERROR)),  # what is worse than we know
        slot=told.slot,
        model=told.model,
        version=min(told.version, MAX_INTEGER),
        text=told.text.replace("\0", ""),  # databases take no zero character
        times=max(1, told.times),
    )
