"""A crossing in one line for people, or as one object for programs. Pure.

What devices and strangers write may hold anything: nothing but printable characters leaves here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import groupby
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from cloud.delivery.crossings import Reading
from cloud.delivery.rules import indexes
from protos.channels import Words
from protos.v1.delivery_pb2 import RepairRequest
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Manifest
from protos.v1.metadata_pb2 import MetadataIndex
from protos.v1.report_pb2 import Report, SlotState, UpdateState

DIGEST = 64
"""Hex digits of a digest; no name is as long."""
SHORT = 12
"""Hex digits shown of it."""
LONGEST = 300
"""Characters shown of what a message says; --json has all of it."""


def kind(reading: Reading) -> str:
    """The channel's name."""
    return reading.channel.name if reading.channel else "unknown"


def who(reading: Reading) -> str:
    """Whom a message is of or for: a device, or what a digest names."""
    if reading.channel is None:
        return printable(reading.crossing.topic)
    named = reading.parameters.values()
    return "/".join(name[:SHORT] if len(name) == DIGEST else name for name in named)


def said(reading: Reading) -> str:
    """What a message says, in one line; for a breach, what is wrong with it."""
    if reading.breaches:
        return "breach: " + "; ".join(map(printable, reading.breaches))
    if reading.clears:
        return "cleared"
    if reading.message is not None:
        return printable(SENTENCES[type(reading.message)](reading.message))
    return _plain(reading)


def document(reading: Reading) -> dict[str, Any]:
    """The whole message for programs: protobuf's own JSON of it, with the names of the .proto files."""
    crossing = reading.crossing
    return {
        "channel": kind(reading),
        "topic": crossing.topic,
        "parameters": dict(reading.parameters),
        "retained": crossing.retained,
        "qos": crossing.qos,
        "bytes": len(crossing.payload),
        "said": said(reading),
        "signers": list(reading.signers),
        "message": _in_json(reading.message) if reading.message is not None else None,
        "breaches": list(reading.breaches),
    }


def printable(text: str) -> str:
    """The text on one line of at most LONGEST characters; what a terminal could take for an order is escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _in_json(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def _plain(reading: Reading) -> str:
    payload = reading.crossing.payload
    if reading.channel and isinstance(reading.channel.payload, Words):
        return payload.decode()
    return f"{len(payload):,} bytes, {hashlib.sha256(payload).hexdigest()[:SHORT]}"


def _manifest(manifest: Manifest) -> str:
    files = [f"{v.name} ({v.artifact.size:,} bytes, {len(v.artifact.chunks)} chunks)" for v in manifest.variants]
    return f"{manifest.model} {manifest.version}: {', '.join(files)}"


def _repair(request: RepairRequest) -> str:
    missing = indexes(int.from_bytes(request.missing, "little"))
    return f"asks for {len(missing)} chunks: {_runs(missing)}"


def _deployment(deployment: Deployment) -> str:
    what = f"{deployment.model} {deployment.version}" if deployment.manifest else "no model"
    rollout = f", rollout {deployment.rollout}" if deployment.rollout else ""
    return f"{what}, generation {deployment.generation}{rollout}"


def _report(report: Report) -> str:
    alarms = [f"alarm: {alarm}" for alarm in report.alarms]
    uplink = [f"uplink {report.uplink}"] if report.uplink else []
    return "; ".join([*map(_slot, report.slots), *alarms, *uplink])


def _index(index: MetadataIndex) -> str:
    return f"newest: root {index.root}, timestamp {index.timestamp}"


def _slot(slot: SlotState) -> str:
    runs = f"runs {slot.running_model} {slot.running_version}" if slot.running else "runs no model"
    fetched = f", {slot.chunks_present}/{slot.chunks_total} chunks" if slot.chunks_present < slot.chunks_total else ""
    proof = ", with receipt" if slot.HasField("receipt") else ""
    reason = f" ({slot.reason})" if slot.reason else ""
    return f"{slot.slot}: {_state(slot.state)}{reason}, generation {slot.generation}, {runs}{fetched}{proof}"


def _state(state: int) -> str:
    if state not in UpdateState.values():
        return f"state {state}"  # of a newer agent
    return UpdateState.Name(UpdateState.ValueType(state)).removeprefix("UPDATE_STATE_").lower()


def _runs(numbers: list[int]) -> str:
    """Rising numbers with neighbours drawn together: 0, 3-5."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


SENTENCES: dict[type[Message], Callable[[Any], str]] = {
    MetadataIndex: _index,
    Manifest: _manifest,
    RepairRequest: _repair,
    Deployment: _deployment,
    Report: _report,
}
