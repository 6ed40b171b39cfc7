"""A slot's update in the contract's words."""

from __future__ import annotations

from edge.update.entities import Progress, Running, State, Update
from protos.v1 import report_pb2
from protos.v1.manifest_pb2 import Signed

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


def resident_bytes(statm: str, page_bytes: int) -> int:
    """Resident memory from the text of /proc/PID/statm; 0 if it is not that."""
    fields = statm.split()
    return int(fields[1]) * page_bytes if len(fields) > 1 and fields[1].isdecimal() else 0


def _named(model: str, version: int, manifest: bytes) -> dict[str, object]:
    return {"model": model, "version": version, "manifest": manifest.hex()}
