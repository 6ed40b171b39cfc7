"""What of a device's words is believed: reports within their limits, receipts that its own key signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import inf, isfinite

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from cloud.fleet.entities import (
    BadReceipt,
    BadReport,
    Claim,
    Device,
    DeviceHealth,
    DeviceTelemetry,
    Known,
    Node,
    NodeState,
    Outcome,
    Reported,
    Slot,
    SlotHealth,
    UpdateState,
    VariantMeasured,
)
from cloud.foundation.clocks import AHEAD_MS, EARLIEST_MS
from protos import topics
from protos.kit import envelope
from protos.kit.columns import Malformed
from protos.kit.latency import BUCKETS
from protos.v1 import report_pb2, uplink_pb2

KEY_BYTES = 32
DIGEST_BYTES = 32
MAX_SLOTS = 16
MAX_VARIANTS = 16
MAX_LABELS = 64
MAX_ALARMS = 8
MAX_LABEL_CHARACTERS = 253
MAX_REASON_CHARACTERS = 1000
MAX_VERSION_CHARACTERS = 100
MAX_INTEGER = 2**63 - 1
"""Databases count in signed 64 bits."""

STATES = {
    report_pb2.UPDATE_STATE_UNSPECIFIED: UpdateState.IDLE,
    report_pb2.UPDATE_STATE_IDLE: UpdateState.IDLE,
    report_pb2.UPDATE_STATE_DOWNLOADING: UpdateState.DOWNLOADING,
    report_pb2.UPDATE_STATE_VERIFYING: UpdateState.VERIFYING,
    report_pb2.UPDATE_STATE_STAGED: UpdateState.STAGED,
    report_pb2.UPDATE_STATE_TRIAL: UpdateState.TRIAL,
    report_pb2.UPDATE_STATE_COMMITTED: UpdateState.COMMITTED,
    report_pb2.UPDATE_STATE_ROLLED_BACK: UpdateState.ROLLED_BACK,
    report_pb2.UPDATE_STATE_REFUSED: UpdateState.REFUSED,
}

OUTCOMES = {
    report_pb2.OUTCOME_COMMITTED: Outcome.COMMITTED,
    report_pb2.OUTCOME_REFUSED: Outcome.REFUSED,
    report_pb2.OUTCOME_ROLLED_BACK: Outcome.ROLLED_BACK,
}


def read_report(report: report_pb2.Report) -> Reported:
    """The report, within its limits. Raises BadReport that says which it breaks."""
    try:
        topics.checked_name(report.device, "device id")
        slots = tuple(_slot(state) for state in report.slots)
    except ValueError as error:
        raise BadReport(str(error)) from error
    if len(report.public_key) != KEY_BYTES:
        raise BadReport(f"its public key has {len(report.public_key)} bytes, an Ed25519 key has {KEY_BYTES}")
    if len(slots) > MAX_SLOTS or len({slot.slot for slot in slots}) < len(slots):
        raise BadReport(f"{len(slots)} slots: at most {MAX_SLOTS} are reported, each once")
    return Reported(
        device=report.device,
        public_key=report.public_key,
        labels=_labels(report.labels),
        agent_version=_text(report.agent_version, MAX_VERSION_CHARACTERS),
        reported_ms=min(report.reported_ms, MAX_INTEGER),
        slots=slots,
        receipts={s.slot: s.receipt.SerializeToString() for s in report.slots if s.HasField("receipt")},
        alarms=tuple(_text(alarm, MAX_REASON_CHARACTERS) for alarm in report.alarms[:MAX_ALARMS]),
        hardware=_text(report.hardware, MAX_REASON_CHARACTERS),
    )


def check_key(known: Known | None, reported: Reported) -> None:
    """Raises BadReport if the device is known by another key: the first one seen is the device's."""
    if known and known.public_key and known.public_key != reported.public_key:
        raise BadReport(
            "it comes with another public key than this device's first report: if the device was set up anew, "
            f"forget it once with 'littoral devices forget {reported.device}'; if not, someone takes its name"
        )


def is_news(known: Known | None, reported: Reported) -> bool:
    """Whether the device has just said this. A broker repeats the last report of a device that is long gone."""
    return known is None or known.reported_ms != reported.reported_ms


def labels_of(reported: Mapping[str, str], of_node: Mapping[str, str] | None) -> Mapping[str, str]:
    """What rollouts select a device by: its node's labels go before what it says of itself."""
    return {**reported, **of_node} if of_node else reported


def as_node(device: Device, node: Node | None) -> Device:
    """The device with what its cluster says of it."""
    return replace(device, node=node, labels=labels_of(device.labels, node.labels)) if node else device


def news_of(known: Mapping[str, Node], present: Sequence[Node]) -> list[Node]:
    """What is to be written when a cluster has told all its nodes: those that changed, and those that are gone."""
    names = {node.device for node in present}
    changed = [node for node in present if known.get(node.device) != node]
    left = [node for node in known.values() if node.device not in names and node.state is not NodeState.GONE]
    return changed + [replace(node, state=NodeState.GONE) for node in left]


def read_receipt(device: str, slot: Slot, signed: bytes, public_key: bytes) -> Claim:
    """The receipt in a slot's report. Raises BadReceipt unless the device's key signed it for that generation."""
    receipt = _verified(signed, public_key)
    if (receipt.device, receipt.slot, receipt.generation) != (device, slot.slot, slot.generation):
        raise BadReceipt(
            f"it speaks of device {receipt.device!r}, slot {receipt.slot!r}, generation {receipt.generation}, "
            f"its report of {device!r}, {slot.slot!r}, {slot.generation}"
        )
    if receipt.outcome not in OUTCOMES:
        raise BadReceipt(f"it has the unknown outcome {receipt.outcome}")
    if {len(receipt.artifact), len(receipt.golden_outputs)} - {0, DIGEST_BYTES}:
        raise BadReceipt(f"its digests are not SHA-256 of {DIGEST_BYTES} bytes")
    return Claim(
        slot=slot.slot,
        generation=receipt.generation,
        manifest=receipt.manifest,
        outcome=OUTCOMES[receipt.outcome],
        reason=_text(receipt.reason, MAX_REASON_CHARACTERS),
        artifact=receipt.artifact,
        variant=_text(receipt.variant, MAX_VERSION_CHARACTERS),
        golden_outputs=receipt.golden_outputs,
        signed=signed,
    )


def read_telemetry(telemetry: uplink_pb2.Telemetry, now_ms: int) -> DeviceTelemetry:
    """Telemetry as it is kept: counts bounded to what a database can hold."""
    return DeviceTelemetry(
        measured_ms=min(telemetry.measured_ms, MAX_INTEGER),
        received_ms=now_ms,
        interval_s=telemetry.interval_s if 0 < telemetry.interval_s < float("inf") else 0.0,
        inferences=min(telemetry.inferences, MAX_INTEGER),
        inference_errors=min(telemetry.inference_errors, MAX_INTEGER),
        latency_p50_us=telemetry.latency_p50_us,
        latency_p95_us=telemetry.latency_p95_us,
        outbox_rows=min(telemetry.outbox_rows, MAX_INTEGER),
        outbox_bytes=min(telemetry.outbox_bytes, MAX_INTEGER),
        dropped=min(telemetry.dropped, MAX_INTEGER),
        resident_bytes=min(telemetry.resident_bytes, MAX_INTEGER),
        model=_text(telemetry.model, MAX_VERSION_CHARACTERS),
        version=min(telemetry.version, MAX_INTEGER),
    )


def read_intervals(payload: bytes, count: int) -> list[uplink_pb2.Telemetry]:
    """The intervals of a batch of telemetry. Raises Malformed that says what is wrong."""
    try:
        intervals = list(uplink_pb2.TelemetryBatch.FromString(payload).intervals)
    except DecodeError as error:
        raise Malformed("not a TelemetryBatch") from error
    if len(intervals) != count or not 0 < count <= topics.MAX_INTERVALS:
        raise Malformed(
            f"{len(intervals)} intervals, the envelope says {count}, allowed are 1 to {topics.MAX_INTERVALS}"
        )
    return intervals


def replaces(measured_ms: int, received_ms: int, former_ms: int, former_received_ms: int) -> bool:
    """Whether telemetry takes the place of the newest there was, by when the device measured each and we received it.

    Of a clock that was never set, or was ahead of ours when it told of the former, no time can be believed: then what
    comes last is the newest. What was received before the former, as from quarantine, does not come last.
    """
    unset, was_ahead = measured_ms < EARLIEST_MS, former_ms > former_received_ms + AHEAD_MS
    return measured_ms >= former_ms or (received_ms >= former_received_ms and (unset or was_ahead))


def newest(intervals: Iterable[uplink_pb2.Telemetry], received_ms: int) -> uplink_pb2.Telemetry:
    """The newest of intervals, of which there is one at least, in the order in which they came together."""
    return reduce(
        lambda former, new: new if replaces(new.measured_ms, received_ms, former.measured_ms, received_ms) else former,
        intervals,
    )


def read_health(telemetry: uplink_pb2.Telemetry) -> DeviceHealth | None:
    """What telemetry says of the device and its machine, within what a database can hold; None: nothing."""
    if not telemetry.HasField("machine"):
        return None
    machine = telemetry.machine
    temperature_c = machine.temperature_c if machine.HasField("temperature_c") else None
    return DeviceHealth(
        measured_ms=min(telemetry.measured_ms, MAX_INTEGER),
        processor=machine.processor if 0 <= machine.processor <= 1 else 0.0,
        memory=min(machine.memory, MAX_INTEGER),
        memory_available=min(machine.memory_available, MAX_INTEGER),
        disk=min(machine.disk, MAX_INTEGER),
        disk_free=min(machine.disk_free, MAX_INTEGER),
        temperature_c=temperature_c if temperature_c is None or isfinite(temperature_c) else None,
        queued_frames=min(telemetry.queued_frames, MAX_INTEGER),
        frames_dropped=min(telemetry.frames_dropped, MAX_INTEGER),
        model_crashes=min(telemetry.model_crashes, MAX_INTEGER),
        uptime_ms=min(telemetry.uptime_ms, MAX_INTEGER),
        latency_counts=tuple(min(count, MAX_INTEGER) for count in telemetry.latency_counts[:BUCKETS]),
        slots=tuple(map(_slot_health, telemetry.slots[:MAX_SLOTS])),
    )


def _slot_health(told: uplink_pb2.SlotTelemetry) -> SlotHealth:
    return SlotHealth(
        slot=_text(told.slot, MAX_VERSION_CHARACTERS),
        model=_text(told.model, MAX_VERSION_CHARACTERS),
        version=min(told.version, MAX_INTEGER),
        inferences=min(told.inferences, MAX_INTEGER),
        inference_errors=min(told.inference_errors, MAX_INTEGER),
        latency_p50_us=told.latency_p50_us,
        latency_p95_us=told.latency_p95_us,
        frames_dropped=min(told.frames_dropped, MAX_INTEGER),
        model_crashes=min(told.model_crashes, MAX_INTEGER),
    )


def changed(reported: Reported, stored: Mapping[str, Slot]) -> list[Slot]:
    """The reported slots that differ from what is on record: most reports only repeat it.

    What was measured of variants is on record elsewhere.
    """
    told = (replace(slot, variant="", threads=0, variants=()) for slot in reported.slots)
    return [slot for slot in told if stored.get(slot.slot) != slot]


def _verified(signed: bytes, public_key: bytes) -> report_pb2.Receipt:
    key = Ed25519PublicKey.from_public_bytes(public_key)
    try:
        payload = envelope.verify(envelope.RECEIPT, envelope.parse(signed), {envelope.key_id(key): key})
        return report_pb2.Receipt.FromString(payload)
    except (envelope.Untrusted, DecodeError) as error:
        raise BadReceipt(f"it is not a receipt signed by the device's key: {error}") from error


def _slot(state: report_pb2.SlotState) -> Slot:
    slot = Slot(
        slot=topics.checked_name(state.slot, "slot"),
        state=STATES.get(state.state, UpdateState.IDLE),
        generation=state.generation,
        manifest=_digest(state.manifest),
        reason=_text(state.reason, MAX_REASON_CHARACTERS),
        running=_digest(state.running),
        running_model=_text(state.running_model, MAX_VERSION_CHARACTERS),
        running_version=state.running_version,
        chunks_total=state.chunks_total,
        chunks_present=state.chunks_present,
        variant=_text(state.variant, MAX_VERSION_CHARACTERS),
        threads=state.threads,
        variants=tuple(_variant(row) for row in state.variants[:MAX_VARIANTS]),
    )
    if max(slot.generation, slot.running_version) > MAX_INTEGER:
        raise ValueError(f"slot {slot.slot!r} has a generation or version above {MAX_INTEGER}")
    return slot


def _variant(row: report_pb2.VariantMeasured) -> VariantMeasured:
    def number(value: float) -> float:
        return value if 0 <= value < inf else 0.0

    return VariantMeasured(
        variant=_text(row.variant, MAX_VERSION_CHARACTERS),
        problem=_text(row.problem, MAX_REASON_CHARACTERS),
        single_us=number(row.single_us),
        frame_us=number(row.frame_us),
        accuracy=number(row.accuracy),
        threads=row.threads,
        measured_in=min(row.measured_in, MAX_INTEGER),
    )


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    if len(labels) > MAX_LABELS:
        raise BadReport(f"{len(labels)} labels: at most {MAX_LABELS} are taken")
    long = [key for key, value in labels.items() if max(len(key), len(value)) > MAX_LABEL_CHARACTERS]
    if long:
        raise BadReport(f"label {long[0][:MAX_LABEL_CHARACTERS]!r} is longer than {MAX_LABEL_CHARACTERS} characters")
    return {_text(key, MAX_LABEL_CHARACTERS): _text(labels[key], MAX_LABEL_CHARACTERS) for key in sorted(labels)}


def _digest(value: bytes) -> bytes:
    if len(value) not in {0, DIGEST_BYTES}:
        raise ValueError(f"a digest has {len(value)} bytes, SHA-256 has {DIGEST_BYTES}")
    return value


def _text(value: str, limit: int) -> str:
    """Databases take no zero character; people read no novel."""
    return value.replace("\0", "")[:limit]
