"""The embedded broker: Mosquitto as a child process where it is installed, else amqtt in this process.

It keeps nothing on disk: what must be retained is published again after each of its starts.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import structlog

from protos.kit.children import bound_to
from protos.kit.link import Address
from protos.topics import MAX_MQTT_BYTES

START_S = 10.0
STOP_S = 3.0
RESTART_S = 1.0
PREDECESSOR_S = 2.0

MAX_PACKET_BYTES = MAX_MQTT_BYTES + 1024
"""Payload, and what topic and headers add to it; a client that sends more is disconnected."""

Kind = Literal["auto", "mosquitto", "amqtt"]

log = structlog.get_logger()


class BrokerFailed(Exception):
    """The embedded broker cannot start; the message says why and what to do."""


@asynccontextmanager
async def embedded_broker(kind: Kind, host: str, port: int, folder: Path) -> AsyncIterator[Address]:
    """A broker on `host`:`port` for as long as the context lasts; yields where this machine reaches it.

    `folder` takes Mosquitto's configuration file. Raises BrokerFailed.
    """
    await _wait_until_free(host, port)
    program = _mosquitto(kind)
    running = _with_mosquitto(program, host, port, folder) if program else _with_amqtt(host, port)
    async with running:
        nearby = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what was bound, not a bind
        log.info("embedded broker started", kind="mosquitto" if program else "amqtt", host=host, port=port)
        yield Address(nearby, port)


def _mosquitto(kind: Kind) -> str | None:
    program = shutil.which("mosquitto") if kind != "amqtt" else None
    if kind == "mosquitto" and program is None:
        raise BrokerFailed("there is no mosquitto on the PATH: install it, or choose --broker-kind amqtt")
    return program


async def _wait_until_free(host: str, port: int) -> None:
    """A process killed a moment ago may have left a broker that is about to end; anything else is there to stay."""
    deadline = asyncio.get_running_loop().time() + PREDECESSOR_S
    while error := _why_taken(host, port):
        if asyncio.get_running_loop().time() > deadline:
            raise BrokerFailed(
                f"the embedded broker cannot listen on {host}:{port}: {error.strerror}. "
                "Choose another port with --broker-port, or name the broker that runs there with --broker"
            ) from error
        await asyncio.sleep(0.1)


def _why_taken(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


@asynccontextmanager
async def _with_amqtt(host: str, port: int) -> AsyncIterator[None]:
    from cloud.foundation.amqtt_broker import BrokerError, EmbeddedBroker  # noqa: PLC0415 - slow, not always needed

    broker = EmbeddedBroker(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", MAX_PACKET_BYTES)
    try:
        await broker.start()
    except BrokerError as error:
        raise BrokerFailed(f"the embedded broker cannot listen on {host}:{port}: {error}") from error
    try:
        yield
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(broker.shutdown(), STOP_S)


@asynccontextmanager
async def _with_mosquitto(program: str, host: str, port: int, folder: Path) -> AsyncIterator[None]:
    config = folder / "mosquitto.conf"
    config.write_text(mosquitto_config(host, port, as_root=os.geteuid() == 0))
    command = bound_to(os.getpid(), [program, "-c", str(config)])
    async with _child(command) as first:
        await _accepting(first, host, port)
        keeper = asyncio.create_task(_keep_running(first, command), name="mosquitto")
        try:
            yield
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper


def mosquitto_config(host: str, port: int, *, as_root: bool) -> str:
    """Open to every client, nothing on disk, no bound on what waits for a slow client, silent unless it fails."""
    lines = [
        f"listener {port} {host}",
        "allow_anonymous true",
        "persistence false",
        f"max_packet_size {MAX_PACKET_BYTES}",
        "max_inflight_messages 0",
        "max_queued_messages 0",
        "set_tcp_nodelay true",
        "sys_interval 0",
        "connection_messages false",
        "log_dest stderr",
        "log_type error",
        "log_timestamp false",
    ]
    if as_root:
        # Mosquitto would change to a user of its own, and the kernel forgets at such a change to whom it is bound.
        lines.append("user root")
    return "\n".join(lines) + "\n"


async def _keep_running(first: Process, command: list[str]) -> None:
    """Start Mosquitto again whenever it ends by itself; publishers see a new session and say everything again."""
    code = await first.wait()
    while True:
        log.error("embedded broker ended, starting it again", exit_code=code)
        await asyncio.sleep(RESTART_S)
        async with _child(command) as process:
            code = await process.wait()


@asynccontextmanager
async def _child(command: list[str]) -> AsyncIterator[Process]:
    # A session of its own: Ctrl-C is for this process, which ends the broker last.
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True
    )
    relay = asyncio.create_task(_relay(process), name="mosquitto's log")
    try:
        yield process
    finally:
        await _stop(process)
        await relay


async def _relay(process: Process) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        log.warning("mosquitto", line=line.decode(errors="replace").rstrip())


async def _stop(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _accepting(process: Process, host: str, port: int) -> None:
    """Return once the child takes connections."""
    try:
        async with asyncio.timeout(START_S):
            while not await _connects(host, port):
                if process.returncode is not None:
                    raise BrokerFailed(
                        f"mosquitto ended at once with exit code {process.returncode}: its log line says why"
                    )
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise BrokerFailed(f"mosquitto does not accept connections on {host}:{port}") from error


async def _connects(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
