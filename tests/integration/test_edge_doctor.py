"""`littoral-edge doctor` on devices in good and in bad health."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc.aio
import pytest

from simulators.ports import free_port
from tests.integration.device_kit import Cloud, Device, world
from tests.integration.test_edge_operating import play, rolled_out

OK, WARNING, FAILURE = "ok", "warning", "failure"


async def examined(device: Device, code: int, **changes: str) -> Mapping[str, Mapping[str, str]]:
    """The findings by name; the doctor must end with `code`."""
    run = device.command()
    flags = dict(zip(run[4::2], run[5::2], strict=True)) | {f"--{name}": value for name, value in changes.items()}
    command = [*run[:3], "doctor", *(part for flag in flags.items() for part in flag), "--json"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    return {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}


def levels(findings: Mapping[str, Mapping[str, str]]) -> dict[str, set[str]]:
    """Names by level."""
    return {level: {n for n, f in findings.items() if f["level"] == level} for level in (OK, WARNING, FAILURE)}


class Api(BaseHTTPRequestHandler):
    """A cloud's API that answers everything, with the time of 2020."""

    def do_GET(self) -> None:
        self.send_response_only(200)
        self.send_header("Date", "Wed, 01 Jan 2020 00:00:00 GMT")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


async def ingest(stack: AsyncExitStack) -> str:
    """The address of a gRPC server that takes connections."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, None)
    return f"127.0.0.1:{port}"


def test_a_device_in_good_health_gets_no_complaint_and_its_agent_is_not_disturbed(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, stack: AsyncExitStack) -> None:
        await rolled_out(cloud, device, 1)
        findings = await examined(device, 0, uplink=await ingest(stack))
        assert levels(findings)[OK] == set(findings)
        assert "answers its 4 golden vectors" in findings["model default"]["found"]
        assert cloud.presence["edge-1"] == b"online"
        assert [line["event"] for line in device.log].count("connected to broker") == 1

    play(tmp_path, scenario)


def test_each_trouble_is_told_with_what_mends_it(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, broker: AsyncExitStack) -> None:
        await rolled_out(cloud, device, 1)
        await device.end()
        await broker.aclose()
        next(device.folder.glob("models/default/*/model.tflite")).write_bytes(b"rot")
        (device.folder / "device.key").chmod(0o644)
        (device.folder / "metadata" / "timestamp.json").unlink()
        findings = await examined(device, 2, trust=str(tmp_path / "absent.json"), threads="200")
        assert levels(findings)[FAILURE] == {"trust file", "model default", "broker", "uplink"}
        assert levels(findings)[WARNING] == {"agent", "device key", "threads"}
        assert all(finding["mend"] for finding in findings.values() if finding["level"] != OK)

    play(tmp_path, scenario)


def test_the_clouds_clock_is_compared_with_the_devices(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, stack: AsyncExitStack) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        await rolled_out(cloud, device, 1)
        address = f"http://127.0.0.1:{server.server_port}"
        findings = await examined(device, 1, api=address, uplink=await ingest(stack))
        assert levels(findings)[WARNING] == {"clock"}
        assert "2020-01-01" in findings["clock"]["found"]

    play(tmp_path, scenario)


@pytest.mark.parametrize(("password", "level"), [("right", OK), ("wrong", FAILURE)])
def test_a_broker_that_does_not_let_the_device_in_is_told_from_one_that_is_away(
    tmp_path: Path, password: str, level: str
) -> None:
    port = free_port()
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "edge-1", "right"], check=True, capture_output=True)
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n")

    async def scenario() -> None:
        async with world(tmp_path / "world") as (_, device, stack):
            server = await asyncio.create_subprocess_exec("/usr/sbin/mosquitto", "-c", str(config), stderr=-3)
            stack.callback(server.kill)
            await listening(port)
            found: Any = await examined(device, 2, broker=f"mqtt://edge-1:{password}@127.0.0.1:{port}")
            assert found["broker"]["level"] == level
            assert ("does not let this device in" in found["broker"]["found"]) is (level == FAILURE)

    asyncio.run(scenario())


async def listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return writer.close()
