from __future__ import annotations

import json
from dataclasses import fields

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.update import receipts, record
from edge.update.entities import Proof, State, Target, Update
from protos.kit import envelope
from protos.v1 import report_pb2
from protos.v1.manifest_pb2 import Signed

digests = st.binary(min_size=0, max_size=32)
numbers = st.integers(0, 2**64 - 1)
targets = st.builds(
    Target,
    slot=st.text(),
    model=st.text(),
    version=numbers,
    manifest=digests,
    generation=numbers,
    issued_ms=numbers,
    expires_ms=numbers,
    rollout=st.text(),
)
proofs = st.builds(Proof, manifest=digests, artifact=digests, variant=st.text(), golden_outputs=digests)
updates = st.builds(
    Update,
    state=st.sampled_from(State),
    target=st.none() | targets,
    reason=st.text(),
    proof=st.none() | proofs,
    proven=st.none() | proofs,
    takeovers=st.integers(0, 9),
    attempts=st.integers(0, 9),
    receipt=digests,
    since_ms=numbers,
)


@given(updates)
def test_an_update_comes_back_from_its_record_as_it_was(update: Update) -> None:
    assert record.decode(record.encode(update)) == update


@given(updates, st.data())
def test_a_record_cut_off_anywhere_is_known_to_be_damaged(update: Update, data: st.DataObject) -> None:
    whole = record.encode(update)
    with pytest.raises(record.Unreadable):
        record.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize("name", [field.name for field in fields(Update)] + ["format"])
def test_a_record_without_one_of_its_fields_is_known_to_be_damaged(name: str) -> None:
    content = json.loads(record.encode(Update()))
    del content[name]
    with pytest.raises(record.Unreadable):
        record.decode(json.dumps(content).encode())


def test_a_record_of_a_newer_format_is_not_guessed_at() -> None:
    content = json.loads(record.encode(Update())) | {"format": 2}
    with pytest.raises(record.Unreadable, match="format 2"):
        record.decode(json.dumps(content).encode())


KEY = Ed25519PrivateKey.from_private_bytes(b"d" * 32)
TARGET = Target("default", "digits", 2, b"m" * 32, 7, issued_ms=1, expires_ms=2, rollout="r1")


def receipt_of(update: Update) -> report_pb2.Receipt:
    issued = receipts.issue(update, "edge-1", 99, lambda purpose, payload: envelope.sign(purpose, payload, KEY))
    keys = {envelope.key_id(KEY.public_key()): KEY.public_key()}
    return report_pb2.Receipt.FromString(envelope.verify(envelope.RECEIPT, Signed.FromString(issued), keys))


def test_the_receipt_of_a_commit_proves_which_artifact_gave_which_outputs() -> None:
    update = Update(State.COMMITTED, TARGET, proof=Proof(b"m" * 32, b"a" * 32, "int8", b"g" * 32))
    assert receipt_of(update) == report_pb2.Receipt(
        device="edge-1",
        slot="default",
        generation=7,
        manifest=b"m" * 32,
        artifact=b"a" * 32,
        variant="int8",
        outcome=report_pb2.OUTCOME_COMMITTED,
        golden_outputs=b"g" * 32,
        issued_ms=99,
    )


@pytest.mark.parametrize(
    ("state", "outcome"),
    [(State.REFUSED, report_pb2.OUTCOME_REFUSED), (State.ROLLED_BACK, report_pb2.OUTCOME_ROLLED_BACK)],
)
def test_the_receipt_of_a_failure_gives_the_reason(state: State, outcome: int) -> None:
    receipt = receipt_of(Update(state, TARGET, reason="golden vectors: 8 of 8 wrong"))
    assert (receipt.outcome, receipt.reason, receipt.artifact) == (outcome, "golden vectors: 8 of 8 wrong", b"")
