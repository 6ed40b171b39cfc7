"""The bundled Mosquitto's files, on a real Mosquitto: who gets in, and what a device may say."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiomqtt
import pytest

from protos import topics
from protos.kit.children import bound_to
from simulators.ports import free_port
from tests.charts import named, render
from tests.mosquitto import needs_mosquitto

pytestmark = needs_mosquitto

DIGEST = bytes(32)
FROM_THE_CLOUD = [
    topics.metadata("timestamp.json"),
    topics.manifest(DIGEST),
    topics.chunk(DIGEST, 0),
    topics.desired("gate-1"),
]
FROM_A_DEVICE = [topics.reported("gate-1"), topics.presence("gate-1"), topics.repair(DIGEST)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The chart's files and the passwords that its init container writes, at paths and a port of this test."""
    objects = render("littoral", {})
    found = named(objects, "ConfigMap", "littoral-mosquitto")["data"]
    port = free_port()
    config = (
        found["mosquitto.conf"].replace("/mosquitto/config", str(tmp_path)).replace("/mosquitto/run", str(tmp_path))
    )
    config = config.replace("/mosquitto/data/", f"{tmp_path}/").replace("listener 1883", f"listener {port} 127.0.0.1")
    user = "user root\n" if os.geteuid() == 0 else ""
    (tmp_path / "mosquitto.conf").write_text(user + config)
    (tmp_path / "acl").write_text(found["acl"])
    (tmp_path / "port").write_text(str(port))
    (prepare,) = named(objects, "StatefulSet", "littoral-mosquitto")["spec"]["template"]["spec"]["initContainers"]
    script = prepare["command"][-1].replace("/mosquitto/run", str(tmp_path))
    passwords = {"CLOUD_PASSWORD": "c", "DEVICE_PASSWORD": "d"}
    subprocess.run(["sh", "-ec", script], env={**os.environ, **passwords}, check=True)
    return tmp_path


@asynccontextmanager
async def broker(files: Path) -> AsyncIterator[int]:
    """Its port."""
    command = bound_to(os.getpid(), ["mosquitto", "-c", str(files / "mosquitto.conf")])
    process = await asyncio.create_subprocess_exec(*command)
    port = int((files / "port").read_text())
    try:
        while not await _accepts(port):
            assert process.returncode is None, "mosquitto did not start"
            await asyncio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def client(port: int, user: str | None = None, password: str | None = None) -> aiomqtt.Client:
    version = aiomqtt.ProtocolVersion.V5  # as the cloud and the agents speak
    return aiomqtt.Client("127.0.0.1", port, username=user, password=password, protocol=version)


async def arrived(port: int, sender: tuple[str, str], said: list[str]) -> set[str]:
    """Topics of `said` that a device hears of when `sender` publishes to them; the cloud has the last word."""
    last = "littoral/v1/devices/last/desired/default"
    heard: set[str] = set()
    async with client(port, "device", "d") as listener, client(port, "cloud", "c") as cloud:
        await listener.subscribe("littoral/v1/#", qos=1)
        for topic in said:
            with suppress(aiomqtt.MqttError):
                async with client(port, *sender) as speaker:
                    await speaker.publish(topic, b"x", qos=1)
        await cloud.publish(last, b"x", qos=1)
        async for message in listener.messages:
            if message.topic.value == last:
                return heard
            heard.add(message.topic.value)
    return heard


def test_the_cloud_may_say_everything(files: Path) -> None:
    async def run() -> set[str]:
        async with broker(files) as port:
            return await arrived(port, ("cloud", "c"), FROM_THE_CLOUD)

    assert asyncio.run(run()) == set(FROM_THE_CLOUD)


def test_a_device_may_say_how_it_is_and_nothing_that_the_cloud_says(files: Path) -> None:
    async def run() -> set[str]:
        async with broker(files) as port:
            return await arrived(port, ("device", "d"), FROM_A_DEVICE + FROM_THE_CLOUD)

    assert asyncio.run(run()) == set(FROM_A_DEVICE)


@pytest.mark.parametrize(("user", "password"), [(None, None), ("device", "c"), ("admin", "d")])
def test_nobody_else_gets_in(files: Path, user: str | None, password: str | None) -> None:
    async def run() -> None:
        async with broker(files) as port, client(port, user, password):
            pass

    with pytest.raises(aiomqtt.MqttError):
        asyncio.run(run())
