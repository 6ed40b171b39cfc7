"""Telemetry of many devices costs one transaction now and then, not one each."""

from __future__ import annotations

import pytest

from cloud.fleet.inbox import TelemetryInbox
from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from protos.v1.report_pb2 import Report
from protos.v1.uplink_pb2 import Telemetry

DEVICES = ("edge-1", "edge-2")


@pytest.fixture
def fleet(database: Database) -> Fleet:
    fleet = Fleet(database)
    for device in DEVICES:
        fleet.observe(Report(device=device, public_key=b"k" * 32), 1)
    return fleet


def inferences(fleet: Fleet) -> list[int | None]:
    found = [fleet.device(device).telemetry for device in DEVICES]
    return [one.inferences if one else None for one in found]


def test_nothing_is_asked_of_the_database_until_all_is_written_together(fleet: Fleet) -> None:
    inbox = TelemetryInbox(fleet)
    for number in (1, 2, 3):
        for device in (*DEVICES, "stranger"):
            inbox.put(device, Telemetry(inferences=number))
    assert inferences(fleet) == [None, None]
    inbox.write()
    assert inferences(fleet) == [3, 3]


def test_what_could_not_be_written_is_written_next_time_but_for_what_is_newer(fleet: Fleet, database: Database) -> None:
    inbox = TelemetryInbox(fleet)
    for device in DEVICES:
        inbox.put(device, Telemetry(inferences=1))
    rename(database, "device_telemetry", "hidden")
    inbox.write()
    rename(database, "hidden", "device_telemetry")
    inbox.put("edge-2", Telemetry(inferences=2))
    inbox.write()
    assert inferences(fleet) == [1, 2]


def rename(database: Database, before: str, after: str) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")
