"""The fleet in its database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from cloud.fleet.entities import Desired, Outcome, UnknownDevice, UpdateState, VariantMeasured
from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from protos.kit import envelope
from protos.v1.report_pb2 import (
    OUTCOME_COMMITTED,
    UPDATE_STATE_COMMITTED,
    UPDATE_STATE_DOWNLOADING,
    Receipt,
    Report,
    SlotState,
)
from protos.v1.report_pb2 import (
    UpdateState as WireState,
)
from protos.v1.uplink_pb2 import Telemetry

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
MANIFEST = b"m" * 32


@pytest.fixture
def fleet(database: Database) -> Fleet:
    return Fleet(database)


def slot(generation: int = 0, state: WireState = UPDATE_STATE_DOWNLOADING, *, proof: bytes | None = None) -> SlotState:
    made = SlotState(slot="default", state=state, generation=generation, running_model="digits", running_version=1)
    if proof is not None:
        receipt = Receipt(
            device="edge-1", slot="default", generation=generation, manifest=proof, outcome=OUTCOME_COMMITTED
        )
        made.receipt.CopyFrom(envelope.sign(envelope.RECEIPT, receipt.SerializeToString(), KEY))
    return made


def report(*slots: SlotState, device: str = "edge-1", key: bytes = PUBLIC, at: int = 1, site: str = "a") -> Report:
    return Report(device=device, public_key=key, labels={"site": site}, slots=slots, reported_ms=at)


def desire(database: Database, fleet: Fleet, device: str = "edge-1", manifest: bytes = MANIFEST) -> Desired:
    def build(generation: int) -> Desired:
        return Desired(device, "default", generation, "digits", 2, manifest, "r-1", b"signed", 1000)

    with database.transaction() as transaction:
        return fleet.desire(transaction, device, "default", build)


def test_a_device_that_reports_is_known_with_what_it_runs(fleet: Fleet) -> None:
    assert fleet.observe(report(slot(3)), 1000) == []
    device = fleet.device("edge-1")
    assert (device.labels, device.first_seen_ms, device.last_seen_ms) == ({"site": "a"}, 1000, 1000)
    assert (device.main.state, device.main.generation, device.main.running_version) == (UpdateState.DOWNLOADING, 3, 1)


def test_a_repeated_report_is_no_sign_of_life(fleet: Fleet) -> None:
    fleet.observe(report(at=1), 1000)
    fleet.observe(report(at=1), 9000)
    assert fleet.device("edge-1").last_seen_ms == 1000
    fleet.observe(report(at=2), 9500)
    assert fleet.device("edge-1").last_seen_ms == 9500


def test_presence_may_come_before_the_first_report(fleet: Fleet) -> None:
    fleet.presence("edge-1", online=True, now_ms=1)
    assert fleet.devices() == []
    fleet.observe(report(), 2)
    assert fleet.device("edge-1").online
    fleet.presence("edge-1", online=False, now_ms=3)
    assert not fleet.device("edge-1").online


def test_another_key_cannot_take_a_devices_name_until_it_is_forgotten(database: Database, fleet: Fleet) -> None:
    fleet.observe(report(), 1)
    desire(database, fleet)
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert "another public key" in fleet.observe(report(key=other, at=2, site="b"), 2)[0].reason
    assert fleet.device("edge-1").labels == {"site": "a"}
    fleet.forget("edge-1")
    assert fleet.observe(report(key=other, at=3), 3) == []
    assert desire(database, fleet).generation == 2


def test_what_is_unknown_is_said_to_be(fleet: Fleet) -> None:
    with pytest.raises(UnknownDevice):
        fleet.device("edge-9")
    with pytest.raises(UnknownDevice):
        fleet.forget("edge-9")


def test_a_receipt_for_a_deployment_is_kept_once_with_its_model(database: Database, fleet: Fleet) -> None:
    desire(database, fleet)
    for at in (1, 2):
        assert fleet.observe(report(slot(1, UPDATE_STATE_COMMITTED, proof=MANIFEST), at=at), at) == []
    (receipt,) = fleet.receipts()
    assert (receipt.device, receipt.model, receipt.version, receipt.outcome) == (
        "edge-1",
        "digits",
        2,
        Outcome.COMMITTED,
    )
    assert fleet.receipts(Outcome.REFUSED) == []


@pytest.mark.parametrize(("generation", "manifest"), [(2, MANIFEST), (1, b"x" * 32)])
def test_a_receipt_for_what_was_never_given_is_not_kept(
    database: Database, fleet: Fleet, generation: int, manifest: bytes
) -> None:
    desire(database, fleet)
    (rejection,) = fleet.observe(report(slot(generation, UPDATE_STATE_COMMITTED, proof=manifest)), 1)
    assert "never given" in rejection.reason
    assert fleet.receipts() == []
    assert fleet.device("edge-1").main.generation == generation


def test_a_late_receipt_for_a_replaced_deployment_is_kept(database: Database, fleet: Fleet) -> None:
    desire(database, fleet)
    desire(database, fleet, manifest=b"n" * 32)
    fleet.observe(report(slot(1, UPDATE_STATE_COMMITTED, proof=MANIFEST)), 1)
    assert [receipt.generation for receipt in fleet.receipts()] == [1]
    with database.reading() as transaction:
        (standing,) = fleet.standings(transaction, "r-1")
    assert (standing.generation, standing.outcomes) == (2, {})


def test_one_bad_report_costs_the_others_nothing(fleet: Fleet) -> None:
    rejections = fleet.take([report(key=b"short"), report(device="edge-2")], 1)
    assert [rejection.device for rejection in rejections] == ["edge-1"]
    assert [device.id for device in fleet.devices()] == ["edge-2"]


def test_generations_grow_by_one_for_each_device_apart(database: Database, fleet: Fleet) -> None:
    assert [desire(database, fleet).generation for _ in range(3)] == [1, 2, 3]
    assert desire(database, fleet, "edge-2").generation == 1


def test_a_deployment_is_unanswered_until_the_device_reports_it_final(database: Database, fleet: Fleet) -> None:
    desire(database, fleet)
    new = desire(database, fleet)
    assert fleet.unanswered() == [new]
    fleet.observe(report(slot(1, UPDATE_STATE_COMMITTED)), 1)
    assert fleet.unanswered() == [new]
    fleet.observe(report(slot(2, UPDATE_STATE_DOWNLOADING), at=2), 2)
    assert fleet.unanswered() == [new]
    fleet.observe(report(slot(2, UPDATE_STATE_COMMITTED), at=3), 3)
    assert fleet.unanswered() == []


def test_only_exactly_what_was_published_counts_as_published(database: Database, fleet: Fleet) -> None:
    old = desire(database, fleet)
    with database.transaction() as transaction:
        renewed = fleet.renew(transaction, 1001, 10, lambda row: replace(row, signed=b"anew", issued_ms=2000))
    assert renewed == 1
    fleet.mark_published([old])
    (new,) = fleet.unpublished()
    assert (new.generation, new.signed, new.issued_ms) == (1, b"anew", 2000)
    fleet.mark_published([new])
    assert fleet.unpublished() == []
    with database.transaction() as transaction:
        assert fleet.renew(transaction, 1001, 10, lambda row: row) == 0


def test_devices_come_in_pages(fleet: Fleet) -> None:
    fleet.take([report(slot(), device=f"edge-{number}") for number in range(5)], 1)
    pages = [fleet.devices("", 2), fleet.devices("edge-1", 2), fleet.devices("edge-3", 2)]
    assert [[device.id for device in page] for page in pages] == [
        ["edge-0", "edge-1"],
        ["edge-2", "edge-3"],
        ["edge-4"],
    ]
    assert all(device.main.running_version == 1 for page in pages for device in page)


def test_the_newest_telemetry_is_kept_of_devices_that_reported(fleet: Fleet) -> None:
    fleet.telemetry("edge-1", Telemetry(inferences=1), 1)
    fleet.observe(report(), 1)
    assert fleet.device("edge-1").telemetry is None
    for inferences in (10, 20):
        fleet.telemetry("edge-1", Telemetry(inferences=inferences, interval_s=2, latency_p95_us=90), 5)
    telemetry = fleet.device("edge-1").telemetry
    assert telemetry is not None
    assert (telemetry.inferences_per_s, telemetry.latency_p95_us) == (10.0, 90)


def test_a_rollout_is_told_who_came_or_changed_labels(database: Database, fleet: Fleet) -> None:
    fleet.observe(report(slot()), 1000)
    fleet.observe(report(slot(), at=2), 5000)
    with database.reading() as transaction:
        assert fleet.labelled_since(transaction, 1001) == []
    fleet.observe(report(slot(), at=3, site="b"), 6000)
    with database.reading() as transaction:
        assert fleet.labelled_since(transaction, 1001) == [("edge-1", {"site": "b"})]


def test_a_rollout_to_a_slot_is_told_who_came_to_have_it(database: Database, fleet: Fleet) -> None:
    fleet.observe(report(slot()), 1000)
    with database.reading() as transaction:
        assert fleet.labelled_since(transaction, 0, "doors") == []
    fleet.observe(report(slot(), SlotState(slot="doors"), at=2), 2000)
    with database.reading() as transaction:
        assert fleet.labelled_since(transaction, 1001, "doors") == [("edge-1", {"site": "a"})]


def measured(frame_us: float, **changed: Any) -> SlotState:
    state = slot(1, UPDATE_STATE_COMMITTED)
    state.variant, state.threads = "int8", 2
    fields = {"variant": "int8", "frame_us": frame_us, "single_us": 9.0, "accuracy": 0.98, "threads": 2}
    state.variants.add(**{**fields, "measured_in": 1, **changed})
    return state


def test_what_a_device_measured_of_variants_is_that_of_its_last_report(database: Database, fleet: Fleet) -> None:
    fleet.observe(report(slot(), device="edge-2", key=bytes(32)), 1)
    for at, frame_us in ((1, 7.0), (2, 8.0)):
        told = report(measured(frame_us), at=at)
        told.hardware = "a processor"
        fleet.observe(told, at)
        device = fleet.device("edge-1")
        assert (device.hardware, device.main.variant, device.main.threads) == ("a processor", "int8", 2)
        assert device.main.variants == (VariantMeasured("int8", "", 9.0, frame_us, 0.98, 2, 1),)
    assert [(one.id, len(one.main.variants)) for one in fleet.devices()] == [("edge-1", 1), ("edge-2", 0)]
    fleet.forget("edge-1")
    with database.reading() as connection:
        left = connection.execute(text("SELECT count(*) FROM device_slot_variants WHERE device = 'edge-1'"))
        assert left.scalar() == 0


def test_numbers_without_sense_are_not_kept(fleet: Fleet) -> None:
    fleet.observe(report(measured(float("inf"), measured_in=2**64 - 1, problem="x\0" * 2000)), 1)
    row = fleet.device("edge-1").main.variants[0]
    assert (row.frame_us, row.measured_in, len(row.problem)) == (0.0, 2**63 - 1, 1000)


def test_a_slot_that_a_device_has_no_more_is_forgotten(fleet: Fleet) -> None:
    fleet.observe(report(slot(), SlotState(slot="doors")), 1)
    assert fleet.device("edge-1").slots.keys() == {"default", "doors"}
    fleet.observe(report(slot(), at=2), 2)
    assert fleet.device("edge-1").slots.keys() == {"default"}


def test_the_alarms_of_a_device_are_those_of_its_last_report(database: Database, fleet: Fleet) -> None:
    def say(at: int, *alarms: str) -> tuple[str, ...]:
        told = report(at=at)
        told.alarms.extend(alarms)
        fleet.observe(told, at)
        return fleet.device("edge-1").alarms

    fleet.observe(report(device="edge-2"), 1)
    assert say(1, "metadata has expired", "disk is full") == ("metadata has expired", "disk is full")
    assert say(2, "disk is full") == ("disk is full",)
    assert {device.id: device.alarms for device in fleet.devices()} == {"edge-1": ("disk is full",), "edge-2": ()}
    assert say(3) == ()
    assert len(say(4, *["x" * 2000] * 50)) == 8
    assert all(len(alarm) == 1000 for alarm in fleet.device("edge-1").alarms)
    fleet.forget("edge-1")
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM device_alarms").scalar() == 0
