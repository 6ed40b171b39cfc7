"""`littoral watch-mqtt` at real brokers: what they keep and what comes is shown, breaches with their reason."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud.delivery.crossings import Crossing
from cloud.delivery.watch import Unreachable, Watch
from cloud.foundation.broker import Kind
from protos import topics
from protos.v1.report_pb2 import Report
from tests.sites import Site, both, scenario

ALL = f"{topics.ROOT}/#"
REPORT = Report(device="edge-1").SerializeToString()


async def crossings(onlooker: Watch, count: int) -> list[Crossing]:
    found: list[Crossing] = []
    while len(found) < count:
        found += [seen.crossing for seen in await onlooker.take()]
    return found


@both
def test_what_the_broker_keeps_is_seen_first_and_then_what_comes(kind: Kind, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("device") as device:
            await device.connected.wait()
            await device.publish(topics.reported("edge-1"), REPORT, retain=True)
            async with Watch(site.address, ALL) as onlooker:
                assert await crossings(onlooker, 1) == [Crossing(topics.reported("edge-1"), REPORT, 1, True)]
                await device.publish(topics.presence("edge-1"), b"online", retain=True)
                await device.publish(topics.repair(bytes(32)), b"x")
                came = await crossings(onlooker, 2)
        assert [(seen.topic, seen.payload) for seen in came] == [
            (topics.presence("edge-1"), b"online"),
            (topics.repair(bytes(32)), b"x"),
        ]
        # Only MQTT 5 tells of a message that is new whether it was published to be kept.
        assert [seen.retained for seen in came] == ([True, False] if kind == "mosquitto" else [None, None])

    scenario(kind, tmp_path, test)


@both
def test_it_goes_on_after_the_broker_was_away(kind: Kind, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.link("device") as device:
            async with site.broker():
                onlooker = await Watch(site.address, ALL).__aenter__()
            async with site.broker():
                await device.connected.wait()
                await device.publish(topics.reported("edge-1"), REPORT, retain=True)
                assert (await crossings(onlooker, 1))[0].payload == REPORT
                await onlooker.__aexit__(None, None, None)

    scenario(kind, tmp_path, test)


def test_a_broker_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        with pytest.raises(Unreachable, match=f"mqtt://127.0.0.1:{site.address.port} cannot be reached"):
            await Watch(site.address, ALL).__aenter__()

    scenario("amqtt", tmp_path, test)


# The command, as a person runs it.


@asynccontextmanager
async def command(site: Site, *flags: str) -> AsyncIterator[Process]:
    arguments = ["-m", "cloud.cli", "watch-mqtt", "--broker", str(site.address), *flags]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: Process) -> str:
    assert process.stdout
    return (await process.stdout.readline()).decode().rstrip("\n")


@both
def test_the_command_prints_one_object_a_message_and_ends_after_the_count(kind: Kind, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("device") as device:
            await device.connected.wait()
            await device.publish(topics.reported("edge-1"), REPORT, retain=True)
            async with command(site, "--json", "--count", "2") as process:
                first: dict[str, Any] = json.loads(await line(process))
                await device.publish(topics.presence("edge-1"), b"maybe", retain=True)
                await device.publish(topics.presence("edge-1"), b"online", retain=True)
                out, error = await process.communicate()
        second: dict[str, Any] = json.loads(out)
        assert (first["channel"], first["message"], first["breaches"]) == ("reported", {"device": "edge-1"}, [])
        assert second["breaches"] == ["it is none of the words online, offline"]
        assert (process.returncode, error) == (0, b"")

    scenario(kind, tmp_path, test)


def test_the_command_prints_one_line_a_message_without_colours_where_no_terminal_is(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("device") as device:
            await device.connected.wait()
            await device.publish(f"{topics.ROOT}/other\x1b[2J", b"x", retain=True)
            async with command(site) as process:
                broken = await line(process)
                await device.publish(topics.presence("edge-1"), b"online", retain=True)
                obeying = await line(process)
        assert broken.split(maxsplit=1)[1] == (
            r"retained       1 B  unknown   littoral/v1/other\x1b[2J  breach: no channel of the contract has this topic"
        )
        assert obeying.split()[1:] == ["6", "B", "presence", "edge-1", "online"]

    scenario("amqtt", tmp_path, test)


def test_ctrl_c_ends_it_quietly_with_130(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("device") as device:
            await device.connected.wait()
            await device.publish(topics.presence("edge-1"), b"online", retain=True)
            async with command(site) as process:
                await line(process)
                process.send_signal(signal.SIGINT)
                out, error = await process.communicate()
        assert (process.returncode, out, error.strip()) == (130, b"", b"")

    scenario("amqtt", tmp_path, test)


def test_a_broker_that_is_not_there_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with command(site) as process:
            _, error = await process.communicate()
        assert process.returncode == 1
        assert error.decode().startswith(f"Error: the broker {site.address} cannot be reached")
        assert "--broker" in error.decode()
        assert b"Traceback" not in error

    scenario("amqtt", tmp_path, test)
