"""The receipt of a final state: what was done with a deployment and what proves it, signed with the device's key."""

from __future__ import annotations

from collections.abc import Callable

from edge.update.entities import State, Update
from protos.kit import envelope
from protos.v1 import report_pb2
from protos.v1.manifest_pb2 import Signed

Sign = Callable[[str, bytes], Signed]

OUTCOMES = {
    State.COMMITTED: report_pb2.OUTCOME_COMMITTED,
    State.REFUSED: report_pb2.OUTCOME_REFUSED,
    State.ROLLED_BACK: report_pb2.OUTCOME_ROLLED_BACK,
}


def issue(update: Update, device: str, now_ms: int, sign: Sign) -> bytes:
    """A serialized Signed Receipt for an update in a final state."""
    target, proof = update.target, update.proof
    assert target, "a final state speaks of a deployment"
    receipt = report_pb2.Receipt(
        device=device,
        slot=target.slot,
        generation=target.generation,
        manifest=target.manifest,
        artifact=proof.artifact if proof else b"",
        variant=proof.variant if proof else "",
        outcome=OUTCOMES[update.state],
        reason=update.reason,
        golden_outputs=proof.golden_outputs if proof else b"",
        issued_ms=now_ms,
    )
    return sign(envelope.RECEIPT, receipt.SerializeToString()).SerializeToString()
