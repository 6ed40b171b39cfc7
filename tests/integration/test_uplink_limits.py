"""Each limit of the uplink has its outcome, and whatever comes after it on the stream flows on."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace

import grpc
import numpy as np
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from cloud.uplink import tables
from cloud.uplink.entities import MAX_BATCH_BYTES
from cloud.uplink.queries import Queries
from cloud.uplink.questions import Bucket, Which
from cloud.uplink.rules import MOST_ROWS
from protos.kit.columns import Results, decode, encode
from protos.topics import MAX_BATCH_ROWS, MAX_GRPC_BYTES
from protos.v1.uplink_pb2 import ResultBatch
from tests.integration.uplink_kit import EPOCH, batch, device_of, running_cloud

YEAR_2200_US = 7_258_118_400_000_000
BOOT_US = 42
LAST_US = 2**62 - 1


def changed(**changes: object) -> bytes:
    return encode(replace(decode(batch(1, 3), 3), **changes))  # type: ignore[arg-type]


def raw(**changes: object) -> bytes:
    message = ResultBatch.FromString(batch(1, 3))
    for name, value in changes.items():
        setattr(message, name, value)
    return message.SerializeToString()


@dataclass(frozen=True)
class Poison:
    """A batch of results 1 to `count` that cannot be stored as such, and what is said of it."""

    payload: bytes
    reason: str
    count: int = 3


POISON = {
    "payload too large": Poison(batch(1, 3) + b"\x7a" + bytes(MAX_BATCH_BYTES), "a batch may have 131072"),
    "rows too many": Poison(raw(count=MAX_BATCH_ROWS + 1), "envelope says 4096", MAX_BATCH_ROWS),
    "rows beyond all limits": Poison(raw(count=5000), "count is 5000", 5000),
    "rows other than said": Poison(batch(1, 3), "count is 3, the envelope says 2", 2),
    "model version unknown": Poison(changed(manifest=b"?" * 32), "is not registered here"),
    "version not the manifest's": Poison(changed(version=9), "its manifest is that of 'digits' 1"),
    "label out of range": Poison(changed(label=np.array([0, 10, 0], np.uint16)), "label 10, but"),
    "confidence no number": Poison(changed(confidence=np.array([1, np.nan, 1], np.float32)), "not numbers"),
    "time beyond all calendars": Poison(raw(first_captured_us=2**62), "must be below 2**62"),
    "frame beyond all numbers": Poison(raw(first_frame=2**62), "must be below 2**62"),
    "slot no name": Poison(raw(slot="No"), "slot 'No' is not a name"),
    "no batch at all": Poison(b"\xff\xff\xff", "not a ResultBatch"),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_set_aside_with_the_reason_and_what_follows_is_stored(database_url: str, name: str) -> None:
    poison = POISON[name]

    async def main() -> None:
        async with running_cloud(database_url) as cloud, device_of(cloud.address) as device:
            await device.hello()
            await device.send(1, poison.count, poison.payload)
            await device.send(1 + poison.count, 2)
            await device.until_acknowledged(poison.count + 2)
            ((first_seq, reason),) = device.quarantined
            assert first_seq == 1
            assert poison.reason in reason
            assert cloud.stored() == [poison.count + 1, poison.count + 2]
            with cloud.database.reading() as connection:
                (kept,) = connection.execute(select(tables.quarantine.c.payload, tables.quarantine.c.reason)).all()
            assert (kept.payload, kept.reason) == (poison.payload, reason)

    asyncio.run(main())


@pytest.mark.parametrize(("first_seq", "count"), [(0, 1), (2**63, 1), (1, 0), (1, MOST_ROWS + 1)])
def test_numbers_that_no_results_can_have_are_set_aside_and_move_nothing(
    database_url: str, first_seq: int, count: int
) -> None:
    async def main() -> None:
        async with running_cloud(database_url) as cloud, device_of(cloud.address) as device:
            await device.hello()
            await device.send(first_seq, count, batch(1, 3))
            await device.send(1, 2)
            await device.until_acknowledged(2)
            ((_, reason),) = device.quarantined
            assert "no run of sequence numbers" in reason
            assert cloud.stored() == [1, 2]

    asyncio.run(main())


def test_a_message_larger_than_any_may_be_ends_the_stream_and_the_next_one_goes_on(database_url: str) -> None:
    async def main() -> None:
        async with running_cloud(database_url) as cloud:
            async with device_of(cloud.address) as device:
                await device.hello()
                await device.send(1, 2)
                await device.until_acknowledged(2)
                await device.send(3, 3, bytes(MAX_GRPC_BYTES + 1))
                code, text = await device.end()
                assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert re.search("larger than max", text)
            async with device_of(cloud.address) as device:
                assert (await device.hello()).watermark == 2
                await device.send(3, 1)
                await device.until_acknowledged(3)
            assert cloud.stored() == [1, 2, 3]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("captured_us", "warned"), [(YEAR_2200_US, "ahead"), (LAST_US, "ahead"), (BOOT_US, "unset"), (0, "unset")]
)
def test_a_clock_far_off_costs_no_result_is_stored_beside_ours_and_logged_once(
    database_url: str, captured_us: int, warned: str
) -> None:
    async def main() -> None:
        async with running_cloud(database_url) as cloud, device_of(cloud.address) as device:
            await device.hello()
            for first in (1, 4):
                await device.send(first, 3, taken_at(first, captured_us))
                await device.until_acknowledged(first + 2)
            r = tables.results.c
            with cloud.database.reading() as connection:
                rows = connection.execute(select(r.captured_us, r.received_ms).order_by(r.seq)).all()
            assert [row.captured_us for row in rows] == [captured_us] * 6
            assert all(row.received_ms > 1_767_225_600_000 for row in rows)
            assert not device.quarantined

    with capture_logs() as logs:
        asyncio.run(main())
    told = [(line["device"], line["clock"]) for line in logs if line["event"] == "device's clock is wrong"]
    assert told == [("edge-1", warned)]


def test_a_clock_that_was_set_is_said_to_be_right_again(database_url: str) -> None:
    async def main() -> None:
        async with running_cloud(database_url) as cloud, device_of(cloud.address) as device:
            await device.hello(epoch=EPOCH)
            for first, captured_us in ((1, BOOT_US), (4, 1_790_000_000_000_000)):
                await device.send(first, 3, taken_at(first, captured_us))
                await device.until_acknowledged(first + 2)

    with capture_logs() as logs:
        asyncio.run(main())
    assert [line["event"] for line in logs if "clock" in line["event"]] == [
        "device's clock is wrong",
        "device's clock is right again",
    ]


def test_answers_that_are_no_probabilities_are_stored_as_they_are_and_accounted_for_as_0_or_1(
    database_url: str,
) -> None:
    async def main() -> None:
        async with running_cloud(database_url) as cloud, device_of(cloud.address) as device:
            await device.hello()
            await device.send(1, 3, changed(confidence=np.array([-3, 0.5, 3e38], np.float32)))
            await device.until_acknowledged(3)
            assert not device.quarantined
            queries = Queries(cloud.database)
            found = queries.results(Which(device="edge-1")).results
            assert [one.confidence for one in reversed(found)] == pytest.approx([-3, 0.5, 3e38])
            (entry,) = queries.account(Which(), Bucket.DAY)
            assert entry.confidence == 0.5
            assert list(entry.confidences) == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]

    asyncio.run(main())


def taken_at(first: int, captured_us: int) -> bytes:
    found: Results = decode(batch(first, 3), 3)
    return encode(replace(found, captured_us=np.full(3, captured_us, np.int64)))
