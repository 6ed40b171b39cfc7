"""`littoral serve` as a process: it comes up, answers, and ends in order."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any

import grpc
import httpx
import pytest

from edge.delivery.trust import Trust
from edge.delivery.trust_sources import FromApi, FromBroker
from edge.foundation.clock import now_ms
from edge.identity.service import read_root
from protos.kit.link import Address, Link
from protos.v1 import uplink_pb2, uplink_pb2_grpc
from simulators.ports import free_port

PORTS = ("api", "ingest", "broker")


def free_ports() -> dict[str, int]:
    """A port for each part."""
    return {name: free_port() for name in PORTS}


def command(folder: Path, ports: Mapping[str, int], *more: str) -> list[str]:
    flags = [flag for name in PORTS for flag in (f"--{name}-port", str(ports[name]))]
    return [sys.executable, "-m", "cloud.cli", "serve", "--dir", str(folder / "data"), *flags, *more]


@contextmanager
def serving(folder: Path, ports: Mapping[str, int], *more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command(folder, ports, *more), stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines_until(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """The log line with this event; fails with what was logged if the process ends before."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("{") and json.loads(line)["event"] == event:
            found: dict[str, Any] = json.loads(line)
            return found
    raise AssertionError("".join(seen))


def until_ready(ports: Mapping[str, int]) -> dict[str, bool]:
    for _ in range(600):
        try:
            answer = httpx.get(f"http://127.0.0.1:{ports['api']}/readyz", trust_env=False)
        except httpx.TransportError:
            sleep(0.1)
            continue
        if answer.status_code == 200:
            parts: dict[str, bool] = answer.json()
            return parts
        sleep(0.1)
    raise AssertionError("not ready")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_becomes_ready_and_ends_with_zero_when_asked_to(tmp_path: Path, number: signal.Signals) -> None:
    ports = free_ports()
    with serving(tmp_path, ports, "--broker-kind", "amqtt") as process:
        ready = lines_until(process, "cloud ready")
        assert ready["api"] == f"http://127.0.0.1:{ports['api']}"
        assert ready["ingest"] == f"127.0.0.1:{ports['ingest']}"
        assert ready["broker"] == f"mqtt://127.0.0.1:{ports['broker']}"
        assert until_ready(ports) == {"database": True, "serving": True, "broker": True}
        process.send_signal(number)
        assert process.wait(30) == 0


def test_a_device_that_streams_is_sent_away_in_order_when_the_cloud_stops(tmp_path: Path) -> None:
    ports = free_ports()
    with serving(tmp_path, ports, "--role", "ingest") as process:
        lines_until(process, "cloud ready")
        with grpc.insecure_channel(f"127.0.0.1:{ports['ingest']}") as channel:
            hello = uplink_pb2.UplinkMessage(hello=uplink_pb2.Hello(device="edge-1", epoch=1))
            replies = uplink_pb2_grpc.UplinkStub(channel).Connect(open_ended(hello))
            assert next(replies).welcome.watermark == 0
            process.terminate()
            with pytest.raises(grpc.RpcError) as ended:
                list(replies)  # which samples are wanted may be said before
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert process.wait(30) == 0


def open_ended(*messages: uplink_pb2.UplinkMessage) -> Iterator[uplink_pb2.UplinkMessage]:
    """The messages, then nothing for as long as the stream lasts."""
    yield from messages
    while True:
        sleep(0.1)
        yield uplink_pb2.UplinkMessage(telemetry=uplink_pb2.Telemetry())


def test_the_trust_document_of_the_api_is_the_one_in_the_folder(tmp_path: Path) -> None:
    ports = free_ports()
    with serving(tmp_path, ports, "--role", "api") as process:
        lines_until(process, "cloud ready")
        served = httpx.get(f"http://127.0.0.1:{ports['api']}/api/v1/trust", trust_env=False).json()
    assert served == json.loads((tmp_path / "data" / "trust.json").read_text())


def test_a_device_whose_broker_is_silent_finds_whom_to_trust_over_the_api(tmp_path: Path) -> None:
    ports = free_ports()
    with serving(tmp_path, ports, "--role", "api") as process:
        lines_until(process, "cloud ready")

        async def directors() -> set[str]:
            silent = FromBroker(Link(Address("127.0.0.1", ports["broker"]), "edge-1"), patience_s=0.1)
            api = FromApi(f"http://127.0.0.1:{ports['api']}")
            root = read_root(tmp_path / "data" / "trust.json")
            return set(await Trust(tmp_path / "metadata", root, [silent, api], 600, now_ms).directors())

        assert asyncio.run(directors()) == set(json.loads((tmp_path / "data" / "trust.json").read_text())["deployment"])


def page(port: int, path: str) -> str:
    """What is served there, once it is."""
    for _ in range(600):
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).text
        sleep(0.1)
    raise AssertionError("nothing there")


@pytest.mark.parametrize("taken", PORTS)
def test_a_taken_port_is_one_sentence_and_exit_code_1(tmp_path: Path, taken: str) -> None:
    ports = free_ports()
    with socket.create_server(("127.0.0.1", ports[taken])):
        ended = subprocess.run(
            command(tmp_path, ports, "--broker-kind", "amqtt"), capture_output=True, text=True, check=False, timeout=60
        )
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{ports[taken]}" in ended.stderr
    assert f"--{taken}-port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_that_cannot_be_made_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    ended = subprocess.run(command(tmp_path, free_ports()), capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert str(tmp_path / "data") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_each_role_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    ports = free_ports()
    metrics = {"publisher": free_port(), "controller": free_port()}
    own = {role: ("--role", role, "--metrics-port", str(port)) for role, port in metrics.items()}
    with serving(tmp_path, ports, *own["publisher"], "--broker-kind", "amqtt") as publisher:
        lines_until(publisher, "connected to broker")
        with serving(tmp_path, ports, *own["controller"]) as controller:
            lines_until(controller, "connected to broker")
            assert "littoral_delivery_chunks_total 0.0" in page(metrics["publisher"], "/metrics")
            assert 'littoral_rollouts{state="running"} 0.0' in page(metrics["controller"], "/metrics")
            assert json.loads(page(metrics["controller"], "/readyz"))["broker"] is True
            with serving(tmp_path, ports, "--role", "api") as api:
                lines_until(api, "cloud ready")
                assert until_ready(ports) == {"database": True, "serving": True}
                assert "littoral_database_up 1.0" in page(ports["api"], "/metrics")
                for process in (api, controller, publisher):
                    process.terminate()
                    assert process.wait(30) == 0
