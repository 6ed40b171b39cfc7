"""Real gRPC streams into a real database: what is acknowledged is stored, and nothing is stored twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest
from sqlalchemy import select

from cloud.uplink import tables
from cloud.uplink.entities import WINDOW
from protos.kit import packing
from protos.v1 import uplink_pb2, uplink_pb2_grpc
from protos.v1.uplink_pb2 import UplinkMessage
from tests.integration.uplink_kit import EPOCH, Cloud, Device, batch, device_of, running_cloud


def play(database_url: str, scenario: Callable[[Cloud], Awaitable[None]], *, wait_s: float = 0.005) -> None:
    async def scene() -> None:
        async with running_cloud(database_url, wait_s=wait_s) as cloud:
            await scenario(cloud)

    asyncio.run(scene())


def test_a_new_device_is_welcomed_at_zero_and_told_the_limits(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            welcome = await device.hello()
            assert (welcome.watermark, welcome.max_batch_bytes, welcome.window) == (0, 128 * 1024, WINDOW)

    play(database_url, scenario)


def test_what_is_acknowledged_is_in_the_database(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            for first in range(1, 1001, 10):
                await device.send(first, 10)
                await device.until_acknowledged(first - 1 if first % 200 == 1 else 0)
                assert cloud.stored()[-1:] >= [device.acknowledged][: device.acknowledged]
            await device.until_acknowledged(1000)
            assert cloud.stored() == list(range(1, 1001))

    play(database_url, scenario)


def test_a_device_that_says_it_is_done_gets_its_last_acknowledgement(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            await device.send(1, 10)
            await device.call.done_writing()
            assert (await device.end())[0] is grpc.StatusCode.OK
            assert device.acknowledged == 10

    play(database_url, scenario)


def test_batches_sent_again_are_acknowledged_and_stored_once(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            for first, count in ((1, 10), (1, 10), (5, 10), (15, 1), (1, 15), (15, 5)):
                await device.send(first, count)
            await device.call.done_writing()
            await device.end()
            assert device.acknowledged == 19
            assert cloud.stored() == list(range(1, 20))

    play(database_url, scenario)


def test_a_device_whose_acknowledgements_were_lost_starts_from_the_watermark(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            await device.send(1, 10)
            device.call.cancel()  # whatever was answered is not read
        async with device_of(cloud.address) as device:
            watermark = (await device.hello()).watermark
            assert watermark in (0, 10)  # the commit may still be under way
            await device.send(1, 10)
            await device.send(11, 5)
            await device.until_acknowledged(15)
        assert cloud.stored() == list(range(1, 16))

    play(database_url, scenario)


@pytest.mark.parametrize("cut_after", range(6))
def test_a_stream_cut_at_any_message_loses_and_doubles_nothing(database_url: str, cut_after: int) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.call.write(UplinkMessage(hello=uplink_pb2.Hello(device="edge-1", epoch=EPOCH)))
            for i in range(cut_after):
                await device.send(1 + 10 * i, 10)
            device.call.cancel()
        async with device_of(cloud.address) as device:
            start = (await device.hello()).watermark + 1
            await device.send(start, 61 - start)
            await device.until_acknowledged(60)
        assert cloud.stored() == list(range(1, 61))

    play(database_url, scenario)


@pytest.mark.parametrize("cut_after", range(6))
def test_a_stream_cut_after_any_reply_loses_and_doubles_nothing(database_url: str, cut_after: int) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            for i in range(6):
                await device.send(1 + 10 * i, 10)
                if i < cut_after:
                    await device.next()
            device.call.cancel()
            told = device.acknowledged
        async with device_of(cloud.address) as device:
            start = (await device.hello()).watermark + 1
            assert start > told
            await device.send(start, 71 - start)
            await device.until_acknowledged(70)
        assert cloud.stored() == list(range(1, 71))

    play(database_url, scenario)


def test_a_newer_stream_of_a_device_ends_the_older(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as older, device_of(cloud.address) as newer:
            await older.hello()
            await older.send(1, 10)
            start = (await newer.hello()).watermark + 1
            await newer.send(start, 21 - start)
            code, text = await older.end()
            assert code is grpc.StatusCode.ABORTED
            assert "newer stream" in text
            await newer.until_acknowledged(20)
            assert cloud.stored() == list(range(1, 21))

    play(database_url, scenario)


def test_another_life_of_the_outbox_counts_from_one_again(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        for epoch in (1, 2):
            async with device_of(cloud.address) as device:
                assert (await device.hello(epoch=epoch)).watermark == 0
                await device.send(1, 3)
                await device.until_acknowledged(3)
        assert cloud.stored(epoch=1) == cloud.stored(epoch=2) == [1, 2, 3]

    play(database_url, scenario)


def test_poison_is_told_and_passed_and_later_batches_flow(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            await device.send(1, 5, b"\xff\xff")
            await device.send(6, 5)
            await device.until_acknowledged(10)
            assert device.quarantined == [(1, "not a ResultBatch")]
            assert cloud.stored() == [6, 7, 8, 9, 10]

    play(database_url, scenario)


async def send_packed(device: Device, first_seq: int, count: int, payload: bytes) -> None:
    message = uplink_pb2.Batch(first_seq=first_seq, count=count, payload=payload, packing=uplink_pb2.PACKING_ZSTD)
    await device.call.write(UplinkMessage(batch=message))


def test_packed_batches_are_stored_like_others_and_kept_unpacked_in_quarantine(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            assert uplink_pb2.PACKING_ZSTD in (await device.hello()).packings
            await send_packed(device, 1, 500, packed(batch(1, 500)))
            await device.send(501, 10)
            await send_packed(device, 511, 5, packed(b"poison" * 100))
            await device.until_acknowledged(515)
            assert cloud.stored() == list(range(1, 511))
            with cloud.database.reading() as connection:
                assert connection.execute(select(tables.quarantine.c.payload)).scalar_one() == b"poison" * 100

    play(database_url, scenario)


def test_what_cannot_be_unpacked_or_is_a_bomb_goes_aside_and_later_batches_flow(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            await send_packed(device, 1, 5, packed(bytes(1 << 24)))
            await send_packed(device, 6, 5, b"no zstd")
            await device.send(11, 5)
            await device.until_acknowledged(15)
            assert [first for first, _ in device.quarantined] == [1, 6]
            assert cloud.stored() == [11, 12, 13, 14, 15]

    play(database_url, scenario)


def test_a_message_that_gzip_swells_beyond_the_limit_ends_its_stream(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(cloud.address, options, compression=grpc.Compression.Gzip) as channel:
            device = Device(uplink_pb2_grpc.UplinkStub(channel).Connect())
            await device.hello()
            await device.send(1, 5, bytes(1 << 26))
            assert (await device.end())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED

    play(database_url, scenario)


def packed(payload: bytes) -> bytes:
    smaller = packing.pack(payload)
    assert smaller is not None
    return smaller


def first_messages() -> dict[str, UplinkMessage]:
    return {
        "the first message": UplinkMessage(batch=uplink_pb2.Batch(first_seq=1, count=1)),
        "device 'Not A Name'": UplinkMessage(hello=uplink_pb2.Hello(device="Not A Name", epoch=1)),
        "epoch 0": UplinkMessage(hello=uplink_pb2.Hello(device="edge-1", epoch=0)),
        "epoch 18446744073709551615": UplinkMessage(hello=uplink_pb2.Hello(device="edge-1", epoch=2**64 - 1)),
    }


@pytest.mark.parametrize("reason", first_messages())
def test_a_stream_that_begins_wrongly_is_refused_with_the_reason(database_url: str, reason: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.call.write(first_messages()[reason])
            code, text = await device.end()
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert reason in text

    play(database_url, scenario)


def test_a_second_hello_ends_the_stream_after_what_came_before_it_is_acknowledged(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            await device.send(1, 10)
            await device.call.write(UplinkMessage(hello=uplink_pb2.Hello(device="edge-1", epoch=1)))
            assert (await device.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
            assert device.acknowledged == 10

    play(database_url, scenario)


def test_telemetry_is_handed_on(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            await device.call.write(UplinkMessage(telemetry=uplink_pb2.Telemetry(outbox_rows=5)))
            await device.call.done_writing()
            await device.end()
            assert [(name, telemetry.outbox_rows) for name, telemetry in cloud.telemetry] == [("edge-1", 5)]

    play(database_url, scenario)


def test_a_database_that_fails_ends_the_stream_for_a_while_and_acknowledges_nothing(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            with cloud.database.transaction() as connection:
                connection.exec_driver_sql("ALTER TABLE results RENAME TO hidden")
            await device.send(1, 10)
            assert (await device.next()).delay.milliseconds == 1000
            code, text = await device.end()
            assert (code, device.acknowledged) == (grpc.StatusCode.UNAVAILABLE, 0)
            assert "send again" in text
            with cloud.database.transaction() as connection:
                connection.exec_driver_sql("ALTER TABLE hidden RENAME TO results")
        async with device_of(cloud.address) as device:
            assert (await device.hello()).watermark == 0
            await device.send(1, 10)
            await device.until_acknowledged(10)
        assert cloud.stored() == list(range(1, 11))

    play(database_url, scenario)


def test_a_device_is_held_back_while_the_database_is_busy_and_loses_nothing(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            with cloud.database.transaction() as connection:
                connection.execute(select(tables.streams).with_for_update())
                for first in range(1, 2 * WINDOW + 1):
                    await device.send(first, 1)
            await device.until_acknowledged(2 * WINDOW)
            assert cloud.stored() == list(range(1, 2 * WINDOW + 1))

    play(database_url, scenario)


def test_a_stopping_server_acknowledges_all_that_it_stored(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            for first in range(1, 301, 10):
                await device.send(first, 10)
            stopping = asyncio.create_task(cloud.server.stop(5))
            code, text = await device.end()
            await stopping
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "the server stops" in text
            assert cloud.stored() == list(range(1, device.acknowledged + 1))

    play(database_url, scenario, wait_s=0.05)


def test_a_stream_that_waits_for_nothing_does_not_hold_up_the_stop(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device:
            await device.hello()
            await cloud.server.stop(3600)
            assert (await device.end())[0] is grpc.StatusCode.UNAVAILABLE

    play(database_url, scenario)
