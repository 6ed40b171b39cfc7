"""Which version of MQTT a link speaks: the newest that the broker answers, or the one that it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from protos.kit import client
from protos.kit import link as link_module
from protos.kit.link import Address, Link, Mqtt
from tests.sites import running

ACCEPTED = {4: b"\x20\x02\x00\x00", 5: b"\x20\x03\x00\x00\x00"}
REFUSED = b"\x20\x02\x00\x01"
LEVEL_AT = 8
"""Of the protocol's level in a CONNECT with a length of one byte."""

Answer = Callable[[int], bytes | None]


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "LONGEST_DELAY_S", 0.05)


def levels_tried(answer: Answer, mqtt: Mqtt, wanted: int) -> list[int]:
    """The protocol levels of the first `wanted` connections to a broker that answers so; None: it hangs up."""

    async def scenario() -> list[int]:
        levels: list[int] = []
        enough = asyncio.Event()

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connect = await reader.read(1024)
            levels.append(connect[LEVEL_AT])
            if (reply := answer(levels[-1])) is not None:
                writer.write(reply)
            if len(levels) >= wanted:
                enough.set()
            writer.close()

        async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
            link = Link(Address("127.0.0.1", server.sockets[0].getsockname()[1]), "one", mqtt=mqtt)
            async with running(link):
                await enough.wait()
        return levels[:wanted]

    return asyncio.run(asyncio.wait_for(scenario(), 30))


def knows_only(level: int) -> Answer:
    return lambda tried: ACCEPTED[tried] if tried == level else REFUSED


def test_it_begins_with_5_and_stays_with_what_is_answered() -> None:
    assert levels_tried(lambda tried: ACCEPTED[tried], "auto", 3) == [5, 5, 5]


def test_a_broker_that_refuses_5_is_spoken_to_in_3_1_1_from_then_on() -> None:
    assert levels_tried(knows_only(4), "auto", 4) == [5, 4, 4, 4]


def test_a_broker_that_gives_5_no_answer_is_tried_in_3_1_1_and_in_5_again_when_it_is_back() -> None:
    assert levels_tried(lambda tried: ACCEPTED[4] if tried == 4 else None, "auto", 4) == [5, 4, 5, 4]


def test_a_broker_that_answers_nothing_is_tried_in_both() -> None:
    assert levels_tried(lambda _: None, "auto", 4) == [5, 4, 5, 4]


@pytest.mark.parametrize(("mqtt", "level"), [("5", 5), ("3.1.1", 4)])
def test_it_keeps_to_the_version_that_it_is_told(mqtt: Mqtt, level: int) -> None:
    for answer in (knows_only(4), knows_only(5), lambda _: None):
        assert set(levels_tried(answer, mqtt, 3)) == {level}


def test_never_more_is_published_at_once_than_a_broker_takes_at_once() -> None:
    takes_two = b"\x20\x06\x00\x00\x03\x21\x00\x02"  # CONNACK with a receive maximum

    async def scenario() -> None:
        unanswered: asyncio.Queue[bytes] = asyncio.Queue()

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            writer.write(takes_two)
            while data := await reader.read(1024):
                for start in range(0, len(data), 9):
                    unanswered.put_nowait(data[start : start + 9])
                    if unanswered.qsize() == 2:
                        await asyncio.sleep(0.05)  # a third would come now
                        assert unanswered.qsize() == 2
                        while not unanswered.empty():
                            publish = unanswered.get_nowait()
                            writer.write(b"\x40\x02" + publish[5:7])

        async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
            link = Link(Address("127.0.0.1", server.sockets[0].getsockname()[1]), "one")
            async with running(link):
                await link.connected.wait()
                await asyncio.gather(*(link.publish("t", b"x") for _ in range(10)))

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_broker_that_takes_the_connection_and_says_nothing_is_left_and_no_connection_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.2)

    async def scenario() -> None:
        ended: asyncio.Queue[None] = asyncio.Queue()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1024):
                pass
            ended.put_nowait(None)
            writer.close()

        async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
            link = Link(Address("127.0.0.1", server.sockets[0].getsockname()[1]), "one")
            async with running(link):
                for _ in range(3):
                    await ended.get()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_flood_that_nobody_takes_ends_the_connection_before_it_fills_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MOST_WAITING_BYTES", 100_000)

    async def scenario() -> None:
        cut = asyncio.Event()

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            writer.write(ACCEPTED[5])
            message = b"\x30\x84\x50" + b"\x00\x01t" + b"\x00" + bytes(10_240)
            try:
                while True:
                    writer.write(message)
                    await writer.drain()
            except ConnectionError:
                cut.set()

        async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
            link = Link(Address("127.0.0.1", server.sockets[0].getsockname()[1]), "one")
            handled, gate = 0, asyncio.Event()

            async def slow(_: str, __: bytes) -> None:
                nonlocal handled
                handled += 1
                await gate.wait()

            link._handlers["t"] = slow  # as if subscribed
            async with running(link):
                await cut.wait()
                assert handled == 1
                assert link._waiting_bytes <= 100_000

    asyncio.run(asyncio.wait_for(scenario(), 30))
