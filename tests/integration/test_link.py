"""A link to a real broker holds what it promises when the broker goes away and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from edge.reporting.mqtt import Reports
from protos.kit import link as link_module
from protos.kit import session
from protos.kit.link import Address, Link, Offline, Will
from protos.topics import MAX_MQTT_BYTES
from protos.v1.report_pb2 import Report
from tests.sites import Site, Sort, every, running, scenario

UNSUBSCRIBE = 0xA2


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "LONGEST_DELAY_S", 1.0)


class Inbox:
    """What arrives, in order; awaited by the test."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def __call__(self, topic: str, payload: bytes) -> None:
        self._queue.put_nowait((topic, payload))

    async def next(self) -> tuple[str, bytes]:
        return await self._queue.get()


async def gone(link: Link) -> None:
    while link.connected.is_set():  # noqa: ASYNC110 - a link tells of connects, not of losses
        await asyncio.sleep(0.01)


@every
def test_what_is_published_arrives_in_order(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        inbox, link = Inbox(), site.new("one")
        await link.subscribe(inbox, "t/+")
        async with site.broker(), running(link):
            await link.connected.wait()
            for number in range(20):
                await link.publish("t/a", b"%d" % number)
            assert [await inbox.next() for _ in range(20)] == [("t/a", b"%d" % number) for number in range(20)]

    scenario(kind, tmp_path, test)


@every
def test_after_a_restart_of_the_broker_it_is_there_again_with_every_subscription(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        inbox, link = Inbox(), site.new("one")
        topics = [f"t/{number}" for number in range(20)]
        await link.subscribe(inbox, *topics[:10])
        async with running(link):
            async with site.broker():
                await link.connected.wait()
                await link.subscribe(inbox, *topics[10:])
                link.unsubscribe(topics[0])
            await gone(link)
            async with site.broker():
                await link.connected.wait()
                for topic in topics:
                    await link.publish(topic, b"again")
                assert [(await inbox.next())[0] for _ in topics[1:]] == topics[1:]

    scenario(kind, tmp_path, test)


@every
def test_its_owner_is_told_of_each_connect_once_the_subscriptions_stand(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        inbox, link = Inbox(), site.new("one")

        async def greet() -> None:
            await link.publish("t/here", b"hello")

        link.on_connect(greet)
        await link.subscribe(inbox, "t/here")
        async with running(link):
            for _ in range(3):
                async with site.broker():
                    assert await inbox.next() == ("t/here", b"hello")
                await gone(link)

    scenario(kind, tmp_path, test)


@every
def test_a_failing_greeting_keeps_no_other_from_being_said(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        inbox, link = Inbox(), site.new("one")

        async def fail() -> None:
            raise RuntimeError("no words")

        async def greet() -> None:
            await link.publish("t/here", b"hello")

        link.on_connect(fail)
        link.on_connect(greet)
        await link.subscribe(inbox, "t/here")
        async with site.broker(), running(link):
            assert await inbox.next() == ("t/here", b"hello")

    scenario(kind, tmp_path, test)


@every
def test_nobody_waits_for_a_broker_that_went_away(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        link = site.new("one")
        async with running(link):
            with pytest.raises(Offline):
                await link.publish("t/a", b"")
            async with site.broker():
                await link.connected.wait()
            await gone(link)
            with pytest.raises(Offline):
                await link.publish("t/a", b"")

    scenario(kind, tmp_path, test)


@every
def test_its_last_will_is_delivered_when_it_ends_without_a_word(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        inbox, watcher = Inbox(), site.new("watcher")
        await watcher.subscribe(inbox, "t/presence")
        async with site.broker(), running(watcher), one_that_dies(site.address):
            assert await inbox.next() == ("t/presence", b"offline")

    scenario(kind, tmp_path, test)


@asynccontextmanager
async def one_that_dies(address: Address) -> AsyncIterator[None]:
    """A link behind a relay that is cut once it is connected: for the broker, a device without power."""
    writers: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(address.host, address.port)
        writers.extend((writer, far_writer))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    link = Link(Address("127.0.0.1", server.sockets[0].getsockname()[1]), "mortal", Will("t/presence", b"offline"))
    async with running(link):
        await link.connected.wait()
        server.close()
        for writer in writers:
            writer.transport.abort()
        yield


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)


@every
def test_a_handler_that_waits_for_a_lost_broker_does_not_keep_the_link_from_coming_back(
    kind: Sort, tmp_path: Path
) -> None:
    async def test(site: Site) -> None:
        link = site.new("one")
        handling, ended = asyncio.Event(), asyncio.Event()

        async def handler(*_: object) -> None:
            handling.set()
            await gone(link)  # seen only if somebody else reads the connection
            ended.set()

        await link.subscribe(handler, "t/a")
        async with running(link):
            async with site.broker():
                await link.connected.wait()
                await link.publish("t/a", b"")
                await handling.wait()
            async with site.broker():
                await ended.wait()
                await link.connected.wait()

    scenario(kind, tmp_path, test)


@every
def test_a_message_that_its_handler_chokes_on_costs_no_later_one(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        inbox, link = Inbox(), site.new("one")

        def choke(topic: str, payload: bytes) -> None:
            if payload == b"poison":
                raise ValueError(payload)
            inbox(topic, payload)

        await link.subscribe(choke, "t/a")
        async with site.broker(), running(link):
            await link.connected.wait()
            await link.publish("t/a", b"poison")
            await link.publish("t/a", b"bread")
            assert await inbox.next() == ("t/a", b"bread")

    scenario(kind, tmp_path, test)


@every
def test_a_handler_added_while_it_connects_misses_nothing(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        inbox, link, other = Inbox(), site.new("one"), site.new("other")
        await link.subscribe(inbox, *(f"t/{number}" for number in range(40)))
        async with site.broker(), running(other), running(link):
            for number in range(40, 60):
                await link.subscribe(inbox, f"t/{number}")
                await asyncio.sleep(0.002)
            await link.connected.wait()
            await other.connected.wait()
            for number in range(60):
                await other.publish(f"t/{number}", b"")
            assert {(await inbox.next())[0] for _ in range(60)} == {f"t/{number}" for number in range(60)}

    scenario(kind, tmp_path, test)


@every
def test_a_new_subscription_brings_what_is_retained_also_the_second_time(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        inbox, link = Inbox(), site.new("one")
        async with site.broker(), running(link):
            await link.connected.wait()
            await link.publish("t/a", b"kept", retain=True)
            for _ in range(2):
                await link.subscribe(inbox, "t/a")
                assert await inbox.next() == ("t/a", b"kept")
                link.unsubscribe("t/a")

    scenario(kind, tmp_path, test)


@every
def test_what_is_wanted_again_before_the_broker_knew_that_it_was_not_stays(
    kind: Sort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LEAVE_S", 0.05)

    async def test(site: Site) -> None:
        inbox, link = Inbox(), site.new("one")
        async with site.broker(), running(link):
            await link.connected.wait()
            await link.subscribe(inbox, "t/a", "t/b")
            link.unsubscribe("t/a", "t/b")
            await link.subscribe(inbox, "t/a")
            await asyncio.sleep(0.2)
            await link.publish("t/a", b"later")
            assert await inbox.next() == ("t/a", b"later")

    scenario(kind, tmp_path, test)


def test_the_broker_is_told_in_one_request_of_what_is_given_up_within_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LEAVE_S", 0.05)

    async def test(_: Site) -> None:
        came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK of MQTT 5, accepted
            came.set_result(await reader.read(1024))
            writer.close()

        async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
            link = Link(Address("127.0.0.1", server.sockets[0].getsockname()[1]), "one")
            async with running(link):
                await link.connected.wait()
                link.unsubscribe("t/a")
                link.unsubscribe("t/b")
                request = await came
        assert request[0] == UNSUBSCRIBE
        assert request.count(b"t/") == 2

    scenario("amqtt", tmp_path, test)


def test_a_broker_that_hangs_up_before_it_grants_a_subscription_is_tried_again_at_once(tmp_path: Path) -> None:
    async def test(_: Site) -> None:
        connects: asyncio.Queue[None] = asyncio.Queue()

        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            writer.write(b"\x20\x02\x00\x00")  # CONNACK, accepted
            await reader.read(1024)
            connects.put_nowait(None)
            writer.close()

        async with await asyncio.start_server(rude, "127.0.0.1", 0) as server:
            link = Link(Address("127.0.0.1", server.sockets[0].getsockname()[1]), "one")
            await link.subscribe(Inbox(), "t/a")
            async with running(link):
                for _ in range(3):
                    await connects.get()
                assert not link.connected.is_set()

    scenario("amqtt", tmp_path, test)


def test_it_ends_when_cancelled_at_any_moment_of_connecting(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker():
            for moment in range(60):
                link = site.new(f"one-{moment}")
                async with running(link):
                    await asyncio.sleep(moment / 5000)

    scenario("amqtt", tmp_path, test)


def test_a_payload_over_the_limit_is_refused_before_it_is_sent() -> None:
    link = Link(Address("127.0.0.1", 1), "one")
    with pytest.raises(ValueError, match="the limit is"):
        asyncio.run(link.publish("t/a", bytes(MAX_MQTT_BYTES + 1)))


@asynccontextmanager
async def to_a_deaf_broker(connects: asyncio.Queue[None]) -> AsyncIterator[Link]:
    """A link, not running yet, to one that takes connections and then answers nothing: as one does that is cut off."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"\x20\x02\x00\x00")  # CONNACK, accepted
        connects.put_nowait(None)
        while await reader.read(1024):
            pass
        writer.close()

    async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
        yield Link(Address("127.0.0.1", server.sockets[0].getsockname()[1]), "one")


def test_a_broker_that_answers_nothing_is_left_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever published is told, and finds the link not connected from that moment on; it reconnects."""
    monkeypatch.setattr(session, "ANSWER_S", 0.5)

    async def test(_: Site) -> None:
        connects: asyncio.Queue[None] = asyncio.Queue()
        async with to_a_deaf_broker(connects) as link, running(link):
            await link.connected.wait()
            with pytest.raises(Offline):
                await link.publish("t/a", b"anyone?")
            assert not link.connected.is_set()
            await connects.get()
            await connects.get()

    scenario("amqtt", tmp_path, test)


def test_who_publishes_whenever_it_is_connected_leaves_others_their_turn_when_the_broker_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ANSWER_S", 0.2)

    async def test(_: Site) -> None:
        connects: asyncio.Queue[None] = asyncio.Queue()
        async with to_a_deaf_broker(connects) as link:
            reports = Reports(link, "edge-1", Report, report_s=1)
            async with running(link):
                reporting = asyncio.create_task(reports.run())
                for _ in range(3):
                    await connects.get()
                reporting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reporting

    scenario("amqtt", tmp_path, test)
