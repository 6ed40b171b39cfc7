from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloud.fleet import rules
from cloud.fleet.entities import SlotHealth, UnknownDevice
from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from protos.kit.latency import BUCKETS
from protos.v1.report_pb2 import Report
from protos.v1.uplink_pb2 import Machine, Telemetry


@pytest.fixture
def fleet(database_url: str) -> Iterator[Fleet]:
    database = Database(database_url)
    database.create()
    yield Fleet(database)
    database.close()


def told(temperature_c: float | None = 48.5, **changes: float) -> Telemetry:
    fields = {"processor": 0.25, "memory": 4, "memory_available": 3, "disk": 2, "disk_free": 1}
    machine = Machine(**fields | {name: value for name, value in changes.items() if name in fields})
    if temperature_c is not None:
        machine.temperature_c = temperature_c
    return Telemetry(machine=machine, measured_ms=7, queued_frames=5, uptime_ms=9, latency_counts=[1, 2, 3])


def report(device: str) -> Report:
    return Report(device=device, public_key=b"k" * 32)


def test_the_newest_health_of_a_device_is_kept(fleet: Fleet) -> None:
    fleet.observe(report("edge-1"), 1)
    for processor in (0.25, 0.75):
        fleet.telemetry("edge-1", told(processor=processor), 1)
    found = fleet.health("edge-1")
    assert found
    assert (found.processor, found.disk_free, found.temperature_c, found.uptime_ms) == (0.75, 1, 48.5, 9)
    assert (found.queued_frames, found.latency_counts) == (5, (1, 2, 3))


def test_what_each_slot_did_is_kept_with_it(fleet: Fleet) -> None:
    fleet.observe(report("edge-1"), 1)
    telemetry = told()
    telemetry.slots.add(slot="default", model="digits", version=3, inferences=50, latency_p95_us=900)
    telemetry.slots.add(slot="audio", model="sounds", inference_errors=2, frames_dropped=4, model_crashes=1)
    fleet.telemetry("edge-1", telemetry, 1)
    found = fleet.health("edge-1")
    assert found
    assert found.slots == (
        SlotHealth("default", "digits", 3, 50, 0, 0, 900, 0, 0),
        SlotHealth("audio", "sounds", 0, 0, 2, 0, 0, 4, 1),
    )


def test_an_agent_that_tells_nothing_of_its_machine_has_no_health_and_an_unknown_device_is_an_error(
    fleet: Fleet,
) -> None:
    fleet.observe(report("edge-1"), 1)
    fleet.telemetry("edge-1", Telemetry(inferences=1), 1)
    fleet.telemetry("edge-2", told(), 1)
    assert fleet.health("edge-1") is None
    with pytest.raises(UnknownDevice):
        fleet.health("edge-2")


def test_the_health_of_a_device_that_is_forgotten_goes_with_it(fleet: Fleet) -> None:
    fleet.observe(report("edge-1"), 1)
    fleet.telemetry("edge-1", told(), 1)
    fleet.forget("edge-1")
    fleet.observe(report("edge-1"), 2)
    assert fleet.health("edge-1") is None


@pytest.mark.parametrize("processor", [-1.0, 2.0, float("nan"), float("inf")])
def test_what_makes_no_sense_is_not_kept(processor: float) -> None:
    senseless = told(temperature_c=float("nan"), processor=processor)
    senseless.queued_frames = 2**64 - 1
    senseless.latency_counts.extend([1] * 10_000)
    for _ in range(100):
        senseless.slots.add(slot="a\0" + "b" * 10_000, inferences=2**64 - 1)
    found = rules.read_health(senseless)
    assert found
    assert (found.processor, found.temperature_c, found.queued_frames) == (0.0, None, 2**63 - 1)
    assert len(found.latency_counts) == BUCKETS
    assert len(found.slots) == rules.MAX_SLOTS
    assert (found.slots[0].inferences, "\0" in found.slots[0].slot) == (2**63 - 1, False)
    assert len(found.slots[0].slot) <= rules.MAX_VERSION_CHARACTERS


def test_a_machine_without_a_sensor_has_no_temperature() -> None:
    found = rules.read_health(told(temperature_c=None))
    assert found
    assert found.temperature_c is None
