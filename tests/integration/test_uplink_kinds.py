"""Events and telemetry over real gRPC streams beside results: what is acknowledged is stored, each kind for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest

from cloud.uplink.service import Ingest
from protos.kit.kinds import Kind
from protos.v1 import uplink_pb2
from protos.v1.uplink_pb2 import UplinkMessage
from tests.integration.uplink_kit import EPOCH, Cloud, device_of, known, running_cloud, wire

BESIDE = (Kind.EVENTS, Kind.TELEMETRY)
UNKNOWN = 7
"""A kind that only a newer agent has."""


def play(database_url: str, scenario: Callable[[Cloud], Awaitable[None]]) -> None:
    async def scene() -> None:
        async with running_cloud(database_url) as cloud:
            await scenario(cloud)

    asyncio.run(scene())


def all_stored(cloud: Cloud) -> dict[Kind, list[int]]:
    return {kind: cloud.stored(kind=kind) for kind in Kind}


def each(last: int) -> dict[Kind, list[int]]:
    return {kind: list(range(1, last + 1)) for kind in Kind}


def test_a_device_is_given_a_mark_for_each_line_that_is_taken(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            assert await device.hello_with_lines() == dict.fromkeys(Kind, 0)

    play(database_url, scenario)


def test_an_agent_of_before_sends_results_alone_and_is_given_no_marks(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            assert not (await device.hello()).marks
            await device.send(1, 10)
            await device.until_acknowledged(10)

    play(database_url, scenario)


def test_a_line_of_an_unknown_kind_is_given_no_mark(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            lines = [uplink_pb2.Line(kind=kind, epoch=EPOCH) for kind in (UNKNOWN, Kind.EVENTS)]  # type: ignore[arg-type]
            hello = uplink_pb2.Hello(device="edge-1", epoch=EPOCH, lines=lines)
            await device.call.write(UplinkMessage(hello=hello))
            assert [mark.kind for mark in (await device.next()).welcome.marks] == [Kind.EVENTS]

    play(database_url, scenario)


def test_a_server_without_rooms_for_them_gives_no_marks(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        cloud.service._ingest = Ingest(cloud.database, known)
        async with device_of(cloud.address) as device:
            assert await device.hello_with_lines() == {Kind.RESULTS: 0}

    play(database_url, scenario)


def lines(*said: tuple[Kind, int]) -> UplinkMessage:
    of = [uplink_pb2.Line(kind=wire(kind), epoch=epoch) for kind, epoch in said]
    return UplinkMessage(hello=uplink_pb2.Hello(device="edge-1", epoch=EPOCH, lines=of))


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (lines((Kind.EVENTS, 1), (Kind.EVENTS, 2)), "each kind has one"),
        (lines((Kind.RESULTS, 1)), "results have none"),
        (lines((Kind.EVENTS, 0)), "epoch 0"),
        (lines((Kind.TELEMETRY, 2**63)), f"epoch {2**63}"),
    ],
)
def test_a_greeting_with_lines_that_cannot_be_is_refused(database_url: str, hello: UplinkMessage, reason: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.call.write(hello)
            code, text = await device.end()
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert reason in text

    play(database_url, scenario)


def test_a_batch_of_a_kind_without_a_mark_ends_the_stream_after_what_came_before_it_is_acknowledged(
    database_url: str,
) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            await device.send(1, 5)
            await device.send(1, 5, kind=Kind.EVENTS)
            code, text = await device.end()
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "kind 1" in text
            assert all_stored(cloud) == each(0) | {Kind.RESULTS: [1, 2, 3, 4, 5]}
            assert device.acknowledged == 5

    play(database_url, scenario)


def test_kinds_are_acknowledged_each_by_its_own_watermark(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello_with_lines()
            for first in range(1, 101, 10):
                await device.send(first, 10)
                await device.send((first + 9) // 10, 1, kind=Kind.EVENTS)
                await device.send((first + 9) // 5 - 1, 2, kind=Kind.TELEMETRY)
            for kind, last in ((Kind.RESULTS, 100), (Kind.EVENTS, 10), (Kind.TELEMETRY, 20)):
                await device.until_acknowledged(last, kind)
                assert device.told[kind] == last
                assert cloud.stored(kind=kind) == list(range(1, last + 1))

    play(database_url, scenario)


@pytest.mark.parametrize("kind", BESIDE)
def test_poison_of_a_kind_is_told_as_of_that_kind_and_what_follows_flows(database_url: str, kind: Kind) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello_with_lines()
            await device.send(1, 5, b"\xff\xff", kind)
            await device.send(6, 5, kind=kind)
            await device.send(1, 5)
            await device.until_acknowledged(10, kind)
            await device.until_acknowledged(5)
            assert (device.quarantined[0][0], device.aside) == (1, [kind])
            assert cloud.stored(kind=kind) == [6, 7, 8, 9, 10]

    play(database_url, scenario)


@pytest.mark.parametrize("cut_after", range(0, 19, 2))
def test_a_stream_of_all_kinds_cut_at_any_message_loses_and_doubles_nothing(database_url: str, cut_after: int) -> None:
    async def scenario(cloud: Cloud) -> None:
        messages = [(1 + 10 * i, kind) for i in range(6) for kind in Kind]
        async with device_of(cloud.address) as device:
            await device.call.write(lines(*((kind, EPOCH) for kind in BESIDE)))
            for first, kind in messages[:cut_after]:
                await device.send(first, 10, kind=kind)
            device.call.cancel()
        async with device_of(cloud.address) as device:
            for kind, watermark in (await device.hello_with_lines()).items():
                await device.send(watermark + 1, 60 - watermark, kind=kind)
            for kind in Kind:
                await device.until_acknowledged(60, kind)
        assert all_stored(cloud) == each(60)

    play(database_url, scenario)


def test_a_device_whose_acknowledgements_were_lost_goes_on_from_each_mark(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        for _ in range(3):
            async with device_of(cloud.address) as device:
                await device.hello_with_lines()
                for kind in Kind:
                    await device.send(1, 10, kind=kind)  # again and again, whatever the marks say
                device.call.cancel()  # whatever was answered is not read
        async with device_of(cloud.address) as device:
            await device.hello_with_lines()
            for kind in Kind:
                await device.send(1, 10, kind=kind)
                await device.send(11, 5, kind=kind)
                await device.until_acknowledged(15, kind)
        assert all_stored(cloud) == each(15)

    play(database_url, scenario)


def test_another_life_of_one_outbox_is_none_of_the_others(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello_with_lines()
            for kind in Kind:
                await device.send(1, 3, kind=kind)
                await device.until_acknowledged(3, kind)
        async with device_of(cloud.address) as device:
            await device.call.write(lines((Kind.EVENTS, EPOCH + 1), (Kind.TELEMETRY, EPOCH)))
            welcome = (await device.next()).welcome
            marks = {mark.kind: mark.watermark for mark in welcome.marks}
            assert (welcome.watermark, marks) == (3, {Kind.EVENTS: 0, Kind.TELEMETRY: 3})
            await device.send(1, 2, kind=Kind.EVENTS)
            await device.until_acknowledged(2, Kind.EVENTS)
        assert cloud.stored(kind=Kind.EVENTS) == [1, 2, 3]
        assert cloud.stored(epoch=EPOCH + 1, kind=Kind.EVENTS) == [1, 2]

    play(database_url, scenario)


def test_a_database_that_fails_for_events_acknowledges_nothing_of_any_kind(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello_with_lines()
            rename(cloud, "events", "hidden")
            for kind in Kind:
                await device.send(1, 10, kind=kind)
            code, _ = await device.end()
            told = dict(device.told)
            rename(cloud, "hidden", "events")
            assert code is grpc.StatusCode.UNAVAILABLE
            assert told[Kind.EVENTS] == 0
            assert all(len(cloud.stored(kind=kind)) >= told[kind] for kind in Kind)
        async with device_of(cloud.address) as device:
            for kind, watermark in (await device.hello_with_lines()).items():
                await device.send(watermark + 1, 10 - watermark or 1, kind=kind)
                await device.until_acknowledged(10, kind)

    play(database_url, scenario)


def rename(cloud: Cloud, table: str, name: str) -> None:
    with cloud.database.transaction() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


def test_the_audit_of_a_kind_hears_what_the_device_says_of_that_outbox(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            books = uplink_pb2.Books(last_seq=9, waiting=4, dropped=2)
            line = uplink_pb2.Line(kind=uplink_pb2.KIND_EVENTS, epoch=EPOCH, books=books)  # it says its kind itself
            hello = uplink_pb2.Hello(device="edge-1", epoch=EPOCH, lines=[line])
            await device.call.write(UplinkMessage(hello=hello))
            await device.next()
            await device.send(3, 3, kind=Kind.EVENTS)
            await device.until_acknowledged(5, Kind.EVENTS)
            (audited,) = cloud.service._ingest.audit(Kind.EVENTS)
            assert (audited.made, audited.waiting, audited.dropped, audited.stored, audited.lost) == (9, 4, 2, 3, 0)
            later = uplink_pb2.Books(last_seq=9, waiting=1, dropped=2, kind=uplink_pb2.KIND_EVENTS)
            await device.call.write(UplinkMessage(books=later))
            await device.call.write(UplinkMessage(books=uplink_pb2.Books(last_seq=99)))  # of results
            await device.call.write(UplinkMessage(books=uplink_pb2.Books(last_seq=99, kind=UNKNOWN)))  # type: ignore[arg-type]
            await device.call.done_writing()
            await device.end()
            (audited,) = cloud.service._ingest.audit(Kind.EVENTS)
            assert (audited.made, audited.waiting, audited.lost) == (9, 1, 3)

    play(database_url, scenario)
