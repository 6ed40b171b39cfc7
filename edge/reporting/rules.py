"""A slot's update in the contract's words."""

from __future__ import annotations

from edge.foundation.machine import Measured
from edge.update.entities import Progress, Running, State, Update
from protos.v1 import report_pb2
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
    slot: str, update: Update, notice: str, running: Running | None, progress: Progress
) -> report_pb2.SlotState:
    """All that a report says of a slot. `notice`: a passing trouble that has no state of its own."""
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
    if update.receipt:
        state.receipt.CopyFrom(Signed.FromString(update.receipt))
    return state


def status(update: Update, notice: str, running: Running | None, progress: Progress) -> dict[str, object]:
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


def _named(model: str, version: int, manifest: bytes) -> dict[str, object]:
    return {"model": model, "version": version, "manifest": manifest.hex()}
