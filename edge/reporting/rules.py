"""A slot's update in the contract's words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge.foundation.machine import Measured
from edge.inference.entities import Stats
from edge.update import variants
from edge.update.entities import Progress, Running, State, Update
from edge.update.variants import Table
from protos.v1 import report_pb2, uplink_pb2
from protos.v1.manifest_pb2 import Signed
from protos.v1.uplink_pb2 import Machine

STATES = {
    State.IDLE: report_pb2.UPDATE_STATE_IDLE,
    State.DOWNLOADING: report_pb2.UPDATE_STATE_DOWNLOADING,
    State.VERIFYING: report_pb2.UPDATE_STATE_VERIFYING,
    State.STAGED: report_pb2.UPDATE_STATE_STAGED,
    State.TRIAL: report_pb2.UPDATE_STATE_TRIAL,
    State.COMMITTED: report_pb2.UPDATE_STATE_COMMITTED,
    State.REFUSED: report_pb2.UPDATE_STATE_REFUSED,
    State.ROLLED_BACK: report_pb2.UPDATE_STATE_ROLLED_BACK,
}


def slot_state(
    slot: str, update: Update, notice: str, running: Running | None, progress: Progress, *, table: Table | None = None
) -> report_pb2.SlotState:
    """All that a report says of a slot. notice: a passing trouble that has no state of its own. table: of variants."""
    state = report_pb2.SlotState(
        slot=slot,
        state=STATES[update.state],
        generation=update.generation,
        manifest=update.target.manifest if update.target else b"",
        reason=update.reason or notice,
        chunks_total=progress.total,
        chunks_present=progress.present,
    )
    if running:
        state.running = running.manifest
        state.running_model = running.model
        state.running_version = running.version
        state.variant = running.variant
    for row in table.rows if table else ():
        state.variants.append(_measured(row))
    if update.receipt:
        state.receipt.CopyFrom(Signed.FromString(update.receipt))
    return state


def status(
    update: Update, notice: str, running: Running | None, progress: Progress, *, table: Table | None = None
) -> dict[str, object]:
    """A slot as JSON for people. `running` is null without a model, `desired` before the first deployment."""
    target = update.target
    return {
        "running": _named(running.model, running.version, running.manifest) if running else None,
        "desired": _named(target.model, target.version, target.manifest) if target else None,
        "generation": update.generation,
        "state": update.state.value,
        "since_ms": update.since_ms,
        "reason": update.reason or notice,
        "chunks_total": progress.total,
        "chunks_present": progress.present,
        "variant": running.variant if running else "",
        "variants": [_variant(row) for row in table.rows] if table else [],
    }


LOOP_HANGS_S = 15.0
WORKER_LOST_S = 120.0
"""A model's process is started again by itself, with pauses of up to half a minute; after so long it is not."""


def lifelessness(since_beat_s: float, worker_lost_s: float) -> str:
    """What does not live, if the event loop last moved so long ago and the model is so long without a process."""
    if since_beat_s > LOOP_HANGS_S:
        return f"the agent's event loop has not moved for {since_beat_s:.0f} s"
    if worker_lost_s > WORKER_LOST_S:
        return f"the model has been without a process for {worker_lost_s:.0f} s"
    return ""


LONGEST_INTERVAL_S = 60.0


def is_interval(elapsed_s: float, every_s: float, *, is_taken: bool) -> bool:
    """Whether what was measured for so long is an interval of its own.

    While nobody takes it, a minute is: days without the cloud are not to be told by the second.
    """
    return is_taken or elapsed_s >= max(every_s, LONGEST_INTERVAL_S)


def sameness(alarm: str) -> str:
    """What stays of an alarm while the numbers in it change."""
    return re.sub(r"[\d.]+", "#", alarm)


def machine(measured: Measured) -> Machine:
    """The machine's state in the contract's words."""
    return Machine(
        processor=measured.processor,
        memory=measured.memory,
        memory_available=measured.memory_available,
        disk=measured.disk,
        disk_free=measured.disk_free,
        temperature_c=measured.temperature_c,
    )


def resident_bytes(statm: str, page_bytes: int) -> int:
    """Resident memory from the text of /proc/PID/statm; 0 if it is not that."""
    fields = statm.split()
    return int(fields[1]) * page_bytes if len(fields) > 1 and fields[1].isdecimal() else 0


def slot_telemetry(slot: str, stats: Stats, running: Running | None) -> uplink_pb2.SlotTelemetry:
    """One slot's share of an interval."""
    return uplink_pb2.SlotTelemetry(
        slot=slot,
        model=running.model if running else "",
        version=running.version if running else 0,
        inferences=stats.inferences,
        inference_errors=stats.errors,
        latency_p50_us=stats.latency_p50_us,
        latency_p95_us=stats.latency_p95_us,
        frames_dropped=stats.dropped,
        model_crashes=stats.crashes,
    )


def together(stats: Sequence[Stats]) -> Stats:
    """Of all slots: what they did together, and the latencies of the slowest."""
    return Stats(
        inferences=sum(one.inferences for one in stats),
        errors=sum(one.errors for one in stats),
        dropped=sum(one.dropped for one in stats),
        crashes=sum(one.crashes for one in stats),
        latency_p50_us=max(one.latency_p50_us for one in stats),
        latency_p95_us=max(one.latency_p95_us for one in stats),
    )


def _measured(row: variants.Measured) -> report_pb2.VariantMeasured:
    return report_pb2.VariantMeasured(
        variant=row.variant,
        problem=row.problem,
        single_us=row.single_us,
        frame_us=row.frame_us,
        accuracy=row.accuracy,
        threads=row.threads,
        measured_in=row.measured_in,
    )


def _variant(row: variants.Measured) -> dict[str, object]:
    return {
        "variant": row.variant,
        "problem": row.problem,
        "single_us": row.single_us,
        "frame_us": row.frame_us,
        "accuracy": row.accuracy,
        "threads": row.threads,
        "measured_in": row.measured_in,
    }


def _named(model: str, version: int, manifest: bytes) -> dict[str, object]:
    return {"model": model, "version": version, "manifest": manifest.hex()}
