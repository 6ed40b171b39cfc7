"""Metadata from a broker and from an API that answer, do not answer, answer slowly, or never stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloud.foundation.broker import Kind
from edge.delivery.entities import Absent, NotDelivered
from edge.delivery.trust_sources import FromApi, FromBroker
from protos import topics
from protos.kit.link import Link
from protos.v1.metadata_pb2 import MetadataIndex
from tests.sites import Site, both, scenario

IMPATIENT_S = 0.5
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def say_index(cloud: Link, root: int) -> None:
    await cloud.connected.wait()
    await cloud.publish(topics.METADATA_INDEX, MetadataIndex(root=root).SerializeToString(), retain=True)


@both
def test_a_file_comes_whether_it_is_there_before_or_after_it_was_asked_for(kind: Kind, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as cloud, site.link("edge-1") as edge:
            await cloud.connected.wait()
            source = FromBroker(edge)
            asking = asyncio.create_task(source.file("timestamp.json"))
            await asyncio.sleep(0.1)
            await cloud.publish(topics.metadata("timestamp.json"), b"{}", retain=True)
            assert await asking == await source.file("timestamp.json") == b"{}"
            assert edge._handlers == {}

    scenario(kind, tmp_path, test)


@both
def test_the_index_tells_which_root_is_the_newest(kind: Kind, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as cloud, site.link("edge-1") as edge:
            await say_index(cloud, root=2)
            await cloud.publish(topics.metadata("2.root.json"), b"{}", retain=True)
            source = FromBroker(edge)
            assert await source.file("2.root.json") == b"{}"
            with pytest.raises(Absent, match="newest root is 2"):
                await source.file("3.root.json")

    scenario(kind, tmp_path, test)


@pytest.mark.parametrize("index", [b"", b"\xff", bytes(topics.MAX_INDEX_BYTES + 1)])
def test_an_index_that_is_none_is_as_if_nothing_had_been_said(tmp_path: Path, index: bytes) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("rogue") as rogue, site.link("edge-1") as edge:
            await rogue.connected.wait()
            await rogue.publish(topics.METADATA_INDEX, index, retain=True)
            with pytest.raises(NotDelivered, match="not come over MQTT"):
                await FromBroker(edge, IMPATIENT_S).file("2.root.json")

    scenario("amqtt", tmp_path, test)


def test_a_broker_that_is_away_or_silent_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.link("edge-1") as edge:
            with pytest.raises(NotDelivered, match=r"within 0\.5 s"):
                await FromBroker(edge, IMPATIENT_S).file("timestamp.json")
            async with site.broker():
                await edge.connected.wait()
                with pytest.raises(NotDelivered, match=r"within 0\.5 s"):
                    await FromBroker(edge, IMPATIENT_S).file("timestamp.json")
                assert edge._handlers == {}

    scenario("amqtt", tmp_path, test)


@asynccontextmanager
async def api(answer: Answer) -> AsyncIterator[FromApi]:
    """An HTTP server whose every answer is `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await answer(writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield FromApi(f"http://127.0.0.1:{port}", IMPATIENT_S)


def saying(text: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return answer


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def slow(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def silent(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


def ask(answer: Answer) -> bytes:
    async def one() -> bytes:
        async with api(answer) as source:
            return await source.file("timestamp.json")

    return asyncio.run(one())


def test_the_api_gives_a_file() -> None:
    assert ask(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) == b"{}"


def test_the_api_says_that_there_is_none() -> None:
    with pytest.raises(Absent):
        ask(saying(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (endless, "more than"),
        (slow, "not come from"),
        (silent, "not come from"),
        (saying(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), "answers 500"),
        (saying(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"), "answers 302"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), "not come from"),
        (saying(b"this is not HTTP\r\n\r\n"), "not come from"),
    ],
    ids=["endless", "slow", "silent", "error", "elsewhere", "cut off", "nonsense"],
)
def test_an_api_that_gives_no_file_is_given_up(answer: Answer, reason: str) -> None:
    with pytest.raises(NotDelivered, match=reason):
        ask(answer)
