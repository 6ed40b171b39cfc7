"""What of a device's words is believed."""

from __future__ import annotations

import math

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.fleet import rules
from cloud.fleet.entities import BadReceipt, BadReport, Known, Outcome, Slot, UpdateState
from protos.kit import envelope
from protos.v1.report_pb2 import OUTCOME_COMMITTED, UPDATE_STATE_TRIAL, Receipt, Report, SlotState
from protos.v1.report_pb2 import Outcome as WireOutcome
from protos.v1.uplink_pb2 import Telemetry

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
SLOT = Slot(generation=3)


def report(**changed: object) -> Report:
    slots = [
        SlotState(slot="default", state=UPDATE_STATE_TRIAL, generation=3, running_model="digits", running_version=2)
    ]
    fields: dict[str, object] = {"device": "edge-1", "public_key": PUBLIC, "labels": {"site": "a"}, "slots": slots}
    return Report(**{**fields, "reported_ms": 5, **changed})  # type: ignore[arg-type]


def receipt(
    *,
    key: Ed25519PrivateKey = KEY,
    purpose: str = envelope.RECEIPT,
    outcome: WireOutcome = OUTCOME_COMMITTED,
    **changed: object,
) -> bytes:
    fields: dict[str, object] = {"device": "edge-1", "slot": "default", "generation": 3, "manifest": b"m" * 32}
    made = Receipt(**{**fields, "outcome": outcome, **changed})  # type: ignore[arg-type]
    return envelope.sign(purpose, made.SerializeToString(), key).SerializeToString()


def test_a_report_within_its_limits_is_read_whole() -> None:
    read = rules.read_report(report())
    slot = Slot(state=UpdateState.TRIAL, generation=3, running_model="digits", running_version=2)
    assert (read.device, read.public_key, read.labels, read.slots) == ("edge-1", PUBLIC, {"site": "a"}, (slot,))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"device": "Edge 1"}, "not a name"),
        ({"public_key": b"short"}, "5 bytes"),
        ({"labels": {str(number): "x" for number in range(65)}}, "65 labels"),
        ({"labels": {"x": "y" * 254}}, "longer than 253"),
        ({"slots": [SlotState(slot=f"s{number}") for number in range(17)]}, "17 slots"),
        ({"slots": [SlotState(slot="a"), SlotState(slot="a")]}, "each once"),
        ({"slots": [SlotState(slot="a b")]}, "not a name"),
        ({"slots": [SlotState(slot="a", generation=2**63)]}, "above"),
        ({"slots": [SlotState(slot="a", manifest=b"short")]}, "5 bytes"),
    ],
)
def test_a_report_beyond_a_limit_is_refused_with_the_limit(changed: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadReport, match=complaint):
        rules.read_report(report(**changed))


def test_zero_characters_and_long_reasons_are_cut() -> None:
    read = rules.read_report(report(slots=[SlotState(slot="a", reason="\0no" + "x" * 5000)]))
    assert read.slots[0].reason == ("no" + "x" * 5000)[:1000]


def test_the_first_key_seen_is_the_devices() -> None:
    other = Known(b"k" * 32, {}, 0, online=True)
    with pytest.raises(BadReport, match="littoral devices forget edge-1"):
        rules.check_key(other, rules.read_report(report()))
    for known in (None, Known(b"", {}, 0, online=True), Known(PUBLIC, {}, 0, online=True)):
        rules.check_key(known, rules.read_report(report()))


def test_a_report_that_the_broker_repeats_is_no_news() -> None:
    read = rules.read_report(report())
    assert not rules.is_news(Known(PUBLIC, {}, 5, online=True), read)
    assert rules.is_news(Known(PUBLIC, {}, 6, online=True), read)
    assert rules.is_news(None, read)


def test_a_receipt_signed_by_the_device_for_its_generation_is_a_claim() -> None:
    claim = rules.read_receipt("edge-1", SLOT, receipt(reason="fine", variant="int8"), PUBLIC)
    assert (claim.generation, claim.manifest, claim.outcome) == (3, b"m" * 32, Outcome.COMMITTED)


@pytest.mark.parametrize(
    "signed",
    [
        receipt(key=Ed25519PrivateKey.generate()),
        receipt(purpose=envelope.DEPLOYMENT),
        receipt(device="edge-2"),
        receipt(slot="other"),
        receipt(generation=4),
        receipt(outcome=WireOutcome.OUTCOME_UNSPECIFIED),
        receipt(golden_outputs=b"short"),
        b"",
        b"\xff\xff",
    ],
)
def test_a_receipt_that_is_not_the_devices_word_on_this_generation_proves_nothing(signed: bytes) -> None:
    with pytest.raises(BadReceipt):
        rules.read_receipt("edge-1", SLOT, signed, PUBLIC)


@pytest.mark.parametrize("interval", [0.0, -1.0, math.nan, math.inf])
def test_telemetry_without_a_sensible_interval_has_no_rate(interval: float) -> None:
    telemetry = rules.read_telemetry(Telemetry(interval_s=interval, inferences=5, measured_ms=2**64 - 1), 9)
    assert telemetry.inferences_per_s == 0.0
    assert (telemetry.measured_ms, telemetry.received_ms) == (2**63 - 1, 9)
