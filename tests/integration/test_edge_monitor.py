"""The device's page for machines, of a running agent: metrics, life, readiness; and what systemd is told."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from simulators.ports import free_port
from tests import tiny_models
from tests.integration.device_kit import Cloud, Device
from tests.integration.test_edge_operating import FILES, committed, play


async def asked(port: int, path: str) -> tuple[int, str]:
    """Status and text; asked again until somebody listens."""
    while True:
        try:
            url = f"http://127.0.0.1:{port}/{path}"
            answer: Any = await asyncio.to_thread(urllib3.request, "GET", url, retries=False)
        except urllib3.exceptions.HTTPError:
            await asyncio.sleep(0.05)
        else:
            return answer.status, answer.data.decode()


async def metrics(port: int) -> dict[str, float]:
    """Samples by name, those with labels by name{values}."""
    _, text = await asked(port, "metrics")
    return {
        sample.name + ("{" + ",".join(sample.labels.values()) + "}" if sample.labels else ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def deploy(cloud: Cloud) -> str:
    """The first version; its manifest's digest in hex."""
    version = cloud.register(tiny_models.manifest({"int8": FILES[0]}), {"int8": FILES[0]})
    await cloud.publish(version)
    await cloud.deploy(version, 1)
    await committed(cloud, 1)
    return version.manifest_digest.hex()


def test_an_agent_lives_without_a_model_and_is_ready_with_one(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        port = free_port()
        await device.start("--monitor", f"127.0.0.1:{port}")
        assert await asked(port, "healthz") == (200, "ok\n")
        assert await asked(port, "readyz") == (503, "no model is committed yet\n")
        await deploy(cloud)
        assert await asked(port, "readyz") == (200, "ok\n")
        assert (await asked(port, "elsewhere"))[0] == 404

    play(tmp_path, scenario)


def test_an_agent_that_hangs_is_said_not_to_live_while_it_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Signals are handled where the event loop runs: one that sleeps hangs the loop, and no other thread.
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'run' in sys.argv:\n"
        "    import signal, time\n"
        "    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(1000))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(hook))

    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        del cloud
        port = free_port()
        await device.start("--monitor", f"127.0.0.1:{port}")
        assert (await asked(port, "healthz"))[0] == 200
        assert device.process
        device.process.send_signal(signal.SIGUSR1)
        while (found := await asked(port, "healthz"))[0] == 200:  # noqa: ASYNC110 - as a probe asks
            await asyncio.sleep(0.2)
        assert "event loop has not moved" in found[1]

    play(tmp_path, scenario)


def test_metrics_tell_of_inference_outbox_uplink_update_and_model(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        port = free_port()
        await device.start("--monitor", f"127.0.0.1:{port}")
        manifest = await deploy(cloud)
        await device.feed(tiny_models.frames(), 1)
        found = await metrics(port)
        assert (found["littoral_inferences_total{default}"], found["littoral_inference_errors_total{default}"]) == (
            4,
            0,
        )
        assert (found["littoral_outbox_rows{results}"], found["littoral_outbox_dropped_total{results}"]) == (4, 0)
        assert found["littoral_outbox_bytes{results}"] > 0
        assert found["littoral_outbox_rows{events}"] > 0, "the agent's start, and what became of the deployment"
        counted = found["littoral_latency_seconds_count{default}"]
        assert found["littoral_latency_seconds_bucket{+Inf,default}"] == counted == 4
        assert found["littoral_latency_seconds_sum{default}"] > 0
        assert (found["littoral_queued_frames{default}"], found["littoral_uplink_streaming"]) == (0, 0)
        assert (found["littoral_frames_dropped_total{default}"], found["littoral_worker_crashes_total{default}"]) == (
            0,
            0,
        )
        assert (found["littoral_update_state{committed,default}"], found["littoral_update_state{trial,default}"]) == (
            1,
            0,
        )
        assert found["littoral_update_generation{default}"] == 1
        assert found[f"littoral_model_info{{{manifest},tiny,default,1}}"] == 1
        assert found["process_resident_memory_bytes"] > 0

    play(tmp_path, scenario)


def test_metrics_tell_slots_apart_and_what_sinks_lose(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        port = free_port()
        nowhere = tmp_path / "no folder" / "answers.jsonl"
        await device.start(
            "--monitor", f"127.0.0.1:{port}", "--slots", "default=1,second=1", "--results-file", str(nowhere)
        )
        await deploy(cloud)
        await device.feed(tiny_models.frames(), 1)
        while (found := await metrics(port))["littoral_sink_lost_batches_total{file}"] == 0:  # noqa: ASYNC110 - as a scrape asks
            await asyncio.sleep(0.05)
        assert (found["littoral_inferences_total{default}"], found["littoral_inferences_total{second}"]) == (4, 0)
        assert found["littoral_update_state{idle,second}"] == 1

    play(tmp_path, scenario)


def test_systemd_is_told_when_the_agent_is_ready_lives_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        del cloud
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            monkeypatch.setenv("WATCHDOG_USEC", "600000")
            await device.start()
            heard = {await asyncio.to_thread(systemd.recv, 100) for _ in range(4)}
            assert heard == {b"READY=1", b"WATCHDOG=1"}
            assert await device.end(signal.SIGTERM) == 0
            systemd.setblocking(False)
            assert b"STOPPING=1" in iter(lambda: systemd.recv(100), b"")

    play(tmp_path, scenario)
