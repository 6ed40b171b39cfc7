"""Both embedded brokers keep the promises that delivery builds on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from cloud.foundation.broker import BrokerFailed, Kind, embedded_broker
from protos.kit.link import Address
from protos.topics import MAX_MQTT_BYTES
from simulators.ports import free_port

CHUNK = 64 * 1024
PATIENCE_S = 30

os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian puts mosquitto; not on an ordinary user's PATH
MOSQUITTO = pytest.param(
    "mosquitto", marks=pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
)
both = pytest.mark.parametrize("kind", ["amqtt", MOSQUITTO])


def with_broker(kind: Kind, folder: Path, test: Callable[[Address], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE_S), embedded_broker(kind, "127.0.0.1", free_port(), folder) as address:
            await test(address)

    asyncio.run(run())


@asynccontextmanager
async def client(address: Address, name: str, will: str | None = None) -> AsyncIterator[aiomqtt.Client]:
    last = aiomqtt.Will(will, b"offline", 1, retain=True) if will else None
    async with aiomqtt.Client(address.host, address.port, identifier=name, will=last, keepalive=10) as made:
        made.pending_calls_threshold = 1000
        yield made


async def receive(subscriber: aiomqtt.Client, count: int) -> list[aiomqtt.Message]:
    messages = []
    async for message in subscriber.messages:
        messages.append(message)
        if len(messages) == count:
            break
    return messages


async def last_word(subscriber: aiomqtt.Client, payload: bytes) -> None:
    async for message in subscriber.messages:
        if message.payload == payload:
            return


@both
def test_a_later_subscriber_gets_every_retained_chunk_and_none_that_was_cleared(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address) -> None:
        chunks = {f"t/artifact/chunks/{index}": os.urandom(CHUNK) for index in range(100)}
        cleared = {topic for topic in chunks if topic.endswith("7")}
        async with client(address, "publisher") as publisher:
            await asyncio.gather(*(publisher.publish(topic, data, 1, retain=True) for topic, data in chunks.items()))
            await asyncio.gather(*(publisher.publish(topic, b"", 1, retain=True) for topic in cleared))
            async with client(address, "device") as device:
                await device.subscribe([(topic, 1) for topic in chunks])
                await publisher.publish("t/artifact/chunks/7", b"end", 1)
                received = await receive(device, 100 - len(cleared) + 1)
        got = {str(message.topic): message.payload for message in received if message.payload != b"end"}
        assert got == {topic: data for topic, data in chunks.items() if topic not in cleared}

    with_broker(kind, tmp_path, scenario)


@both
def test_a_window_of_subscriptions_over_a_large_artifact_delivers_each_chunk(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address) -> None:
        topics = [f"t/artifact/chunks/{index}" for index in range(64)]
        async with client(address, "publisher") as publisher:
            await asyncio.gather(*(publisher.publish(topic, os.urandom(CHUNK), 1, retain=True) for topic in topics))

        async def fetch(name: str) -> list[str]:
            received = []
            async with client(address, name) as device:
                for start in range(0, len(topics), 8):
                    window = topics[start : start + 8]
                    await device.subscribe([(topic, 1) for topic in window])
                    received += [str(message.topic) for message in await receive(device, len(window))]
                    await device.unsubscribe(window)
            return received

        for received in await asyncio.gather(*(fetch(f"device-{number}") for number in range(8))):
            assert sorted(received) == sorted(topics)

    with_broker(kind, tmp_path, scenario)


@both
def test_clients_that_connect_while_others_subscribe_get_their_own_messages_and_no_others(
    kind: Kind, tmp_path: Path
) -> None:
    async def scenario(address: Address) -> None:
        names = [f"device-{number}" for number in range(12)]
        async with client(address, "publisher") as publisher:
            for name in names:
                await publisher.publish(f"t/{name}/desired", name.encode() * 1000, 1, retain=True)

        async def connect(name: str, delay: float) -> list[str]:
            await asyncio.sleep(delay)
            async with client(address, name) as device:
                await device.subscribe(f"t/{name}/desired", 1)
                await device.subscribe(f"t/{name}/end", 1)
                messages = await receive(device, 1)
                await device.publish(f"t/{name}/end", b"end", 1)
                return [str(message.topic) for message in messages + await receive(device, 1)]

        received = await asyncio.gather(*(connect(name, place * 0.002) for place, name in enumerate(names)))
        assert received == [[f"t/{name}/desired", f"t/{name}/end"] for name in names]

    with_broker(kind, tmp_path, scenario)


@both
def test_the_same_client_again_ends_the_former_connection_whose_will_comes_first(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address) -> None:
        async with client(address, "observer") as observer:
            await observer.subscribe("t/presence", 1)
            reader, writer = await raw_session(address, "device", "t/presence", keepalive=60)
            async with client(address, "device", will="t/presence") as device:
                await device.publish("t/presence", b"online", 1, retain=True)
                assert [message.payload for message in await receive(observer, 2)] == [b"offline", b"online"]
                assert await reader.read() == b""  # closed by the broker
                async with client(address, "later") as later:
                    await later.subscribe("t/presence", 1)
                    assert (await receive(later, 1))[0].payload == b"online"
            writer.close()

    with_broker(kind, tmp_path, scenario)


@both
def test_the_will_of_a_client_whose_connection_breaks_is_published_and_retained(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address) -> None:
        async with client(address, "observer") as observer:
            await observer.subscribe("t/presence", 1)
            _, writer = await raw_session(address, "device", "t/presence", keepalive=60)
            writer.transport.abort()
            await last_word(observer, b"offline")
            async with client(address, "later") as later:
                await later.subscribe("t/presence", 1)
                await last_word(later, b"offline")

    with_broker(kind, tmp_path, scenario)


@both
def test_a_client_that_falls_silent_is_gone_after_its_keepalive(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address) -> None:
        async with client(address, "observer") as observer:
            await observer.subscribe("t/presence", 1)
            _, writer = await raw_session(address, "device", "t/presence", keepalive=1)
            await last_word(observer, b"offline")
            writer.close()

    with_broker(kind, tmp_path, scenario)


@both
def test_a_client_killed_in_the_middle_of_its_retained_messages_harms_nobody(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address) -> None:
        async with client(address, "publisher") as publisher:
            for index in range(40):
                await publisher.publish(f"t/chunks/{index}", os.urandom(CHUNK), 1, retain=True)
            await publisher.subscribe("t/presence", 1)
            for _ in range(3):
                _, writer = await raw_session(address, "device", "t/presence", keepalive=60)
                writer.write(b"\x82\x0f\x00\x01\x00\x0at/chunks/+\x01")  # SUBSCRIBE, and never acknowledge
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.transport.abort()
                await last_word(publisher, b"offline")
            async with client(address, "device") as device:
                await device.subscribe("t/chunks/+", 1)
                assert len({str(message.topic) for message in await receive(device, 40)}) == 40

    with_broker(kind, tmp_path, scenario)


@both
def test_a_packet_over_the_limit_reaches_nobody_and_others_are_still_served(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address) -> None:
        async with client(address, "observer") as observer:
            await observer.subscribe("t/#", 1)
            _, writer = await raw_session(address, "flood", "t/presence", keepalive=60)
            body = b"\x00\x05t/big" + bytes(4 * MAX_MQTT_BYTES)
            writer.write(b"\x30" + variable_length(len(body)) + body)
            writer.close()
            async with client(address, "other") as other:
                await other.publish("t/small", bytes(MAX_MQTT_BYTES), 1)
            topics = [str(message.topic) for message in await receive(observer, 1)]
            while "t/small" not in topics:
                topics += [str(message.topic) for message in await receive(observer, 1)]
            assert "t/big" not in topics

    with_broker(kind, tmp_path, scenario)


@both
def test_the_end_frees_the_port_though_clients_are_connected(kind: Kind, tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        for _ in range(3):
            async with embedded_broker(kind, "127.0.0.1", port, tmp_path) as address:
                await raw_session(address, "device", "t/presence", keepalive=60)

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


@both
def test_a_port_that_is_taken_is_named_with_what_to_do(kind: Kind, tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        async with embedded_broker(kind, "127.0.0.1", port, tmp_path):
            pass

    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(BrokerFailed, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use.*--broker-port"),
    ):
        asyncio.run(scenario(taken.getsockname()[1]))


@both
def test_a_port_that_a_predecessor_is_about_to_leave_is_waited_for(kind: Kind, tmp_path: Path) -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        asyncio.get_running_loop().call_later(0.5, server.close)
        port = server.sockets[0].getsockname()[1]
        async with embedded_broker(kind, "127.0.0.1", port, tmp_path) as address, client(address, "device") as device:
            await device.publish("t/hello", b"hello", 1)

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


def test_mosquitto_that_is_not_installed_is_refused_only_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(kind: Kind) -> None:
        async with (
            embedded_broker(kind, "127.0.0.1", free_port(), tmp_path) as address,
            client(address, "device") as device,
        ):
            await device.publish("t/hello", b"hello", 1)

    monkeypatch.setenv("PATH", str(tmp_path))
    asyncio.run(scenario("auto"))
    with pytest.raises(BrokerFailed, match="no mosquitto on the PATH"):
        asyncio.run(scenario("mosquitto"))


@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
class TestMosquittoIsAChild:
    def test_it_ends_with_a_parent_that_is_killed(self, tmp_path: Path) -> None:
        port = free_port()
        program = (
            "import asyncio, pathlib\n"
            "from cloud.foundation.broker import embedded_broker\n"
            "async def main():\n"
            f"    async with embedded_broker('mosquitto', '127.0.0.1', {port}, pathlib.Path({str(tmp_path)!r})):\n"
            "        print('up', flush=True)\n"
            "        await asyncio.sleep(60)\n"
            "asyncio.run(main())\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert parent.stdout is not None
        while parent.stdout.readline() != b"up\n":
            assert parent.poll() is None
        parent.kill()
        parent.wait()
        parent.stdout.close()
        asyncio.run(asyncio.wait_for(refuses_connections(port), PATIENCE_S))

    def test_it_is_started_again_when_it_ends_by_itself(self, tmp_path: Path) -> None:
        async def scenario(address: Address) -> None:
            for child in children_named("mosquitto"):
                os.kill(child, signal.SIGKILL)
            await refuses_connections(address.port)
            while True:
                try:
                    async with client(address, "device") as device:
                        await device.publish("t/hello", b"hello", 1)
                        return
                except aiomqtt.MqttError:
                    await asyncio.sleep(0.1)

        with_broker("mosquitto", tmp_path, scenario)


async def refuses_connections(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.05)


def children_named(name: str) -> list[int]:
    """Process ids of this process's children that run the program `name`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = entry.read_text().rpartition(")")
        except OSError:
            continue
        pid, _, program = head.partition(" (")
        if program == name and int(tail.split()[1]) == os.getpid():
            found.append(int(pid))
    return found


async def raw_session(
    address: Address, name: str, will_topic: str, keepalive: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that does only what it is told: CONNECT (MQTT 3.1.1, clean, with a retained will), then nothing."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    fields = [name.encode(), will_topic.encode(), b"offline"]
    payload = b"".join(len(field).to_bytes(2) + field for field in fields)
    flags = 0b0010_1110  # will retained, QoS 1, will, clean session
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + keepalive.to_bytes(2) + payload
    writer.write(b"\x10" + variable_length(len(body)) + body)
    assert (await reader.readexactly(4))[3] == 0  # CONNACK: accepted
    return reader, writer


def variable_length(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, digit = divmod(value, 128)
        encoded.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(encoded)
