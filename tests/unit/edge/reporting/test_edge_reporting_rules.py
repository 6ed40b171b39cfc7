from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.inference.entities import Stats
from edge.reporting import rules
from edge.update.entities import Progress, Running, State, Target, Update
from edge.update.variants import Measured, Table
from protos.kit import envelope
from protos.v1 import report_pb2

TARGET = Target("default", "digits", 2, b"n" * 32, 7, issued_ms=1, expires_ms=2, rollout="r1")
RUNNING = Running("digits", 1, b"o" * 32)


def test_a_device_that_was_never_told_anything_is_idle_and_runs_nothing() -> None:
    assert rules.slot_state("default", Update(), "", None, Progress()) == report_pb2.SlotState(
        slot="default", state=report_pb2.UPDATE_STATE_IDLE
    )


def test_an_update_at_work_shows_what_runs_meanwhile_and_how_far_it_has_come() -> None:
    update = Update(State.DOWNLOADING, TARGET, reason="link down")
    assert rules.slot_state("default", update, "", RUNNING, Progress(total=4, present=3)) == report_pb2.SlotState(
        slot="default",
        state=report_pb2.UPDATE_STATE_DOWNLOADING,
        generation=7,
        manifest=b"n" * 32,
        reason="link down",
        running=b"o" * 32,
        running_model="digits",
        running_version=1,
        chunks_total=4,
        chunks_present=3,
    )


def test_the_receipt_is_reported_as_it_was_signed() -> None:
    signed = envelope.sign(envelope.RECEIPT, b"receipt", Ed25519PrivateKey.generate())
    update = Update(State.COMMITTED, TARGET, receipt=signed.SerializeToString())
    assert rules.slot_state("default", update, "", RUNNING, Progress()).receipt == signed


@pytest.mark.parametrize(("reason", "shown"), [("", "expired"), ("refused", "refused")])
def test_a_notice_is_shown_where_the_update_has_no_reason_of_its_own(reason: str, shown: str) -> None:
    assert rules.slot_state("default", Update(reason=reason), "expired", None, Progress()).reason == shown


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_word_in_the_contract(state: State) -> None:
    name = report_pb2.UpdateState.Name(rules.STATES[state])
    assert name == f"UPDATE_STATE_{state.value.upper()}"


ROW = Measured("int8", 2, 0.98, "form", 1000, 12.5, 10.0, 3)
TABLE = Table("00", "digits", 3, "a processor", "int8", (ROW,))


def test_the_table_of_variants_is_reported_with_the_one_in_use() -> None:
    running = Running("digits", 3, b"o" * 32, "int8")
    state = rules.slot_state("default", Update(), "", running, Progress(), table=TABLE)
    assert state.variant == "int8"
    assert list(state.variants) == [
        report_pb2.VariantMeasured(
            variant="int8", single_us=12.5, frame_us=10.0, accuracy=0.98, threads=2, measured_in=3
        )
    ]


def test_the_status_has_the_same_table() -> None:
    status = rules.status(Update(), "", Running("digits", 3, b"o" * 32, "int8"), Progress(), table=TABLE)
    assert status["variant"] == "int8"
    assert status["variants"] == [
        {
            "variant": "int8",
            "problem": "",
            "single_us": 12.5,
            "frame_us": 10.0,
            "accuracy": 0.98,
            "threads": 2,
            "measured_in": 3,
        }
    ]


def test_the_telemetry_of_several_slots_is_their_sum_and_the_latency_of_the_slowest() -> None:
    first, second = Stats(10, 1, 2, 0, 50, 90), Stats(5, 0, 0, 1, 40, 120)
    assert rules.together([first, second]) == Stats(15, 1, 2, 1, 50, 120)
    assert rules.together([first]) == first


@pytest.mark.parametrize(("text", "expected"), [("100 25 3 4 0 5 0", 25 * 4096), ("", 0), ("nothing here", 0)])
def test_resident_memory_is_read_from_statm(text: str, expected: int) -> None:
    assert rules.resident_bytes(text, 4096) == expected
