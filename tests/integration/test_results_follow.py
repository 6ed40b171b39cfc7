"""`littoral results follow`, killed again and again while results come in: what it printed misses none."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from cloud.foundation.database import Database
from cloud.uplink import consumer_routes
from cloud.uplink.consumers import Consumers
from cloud.uplink.entities import ReceivedBatch
from cloud.uplink.service import Ingest
from tests.integration.uplink_kit import batch, known

DEVICES = 3
BATCHES = 150
ROWS = 20
KILLS = 5
PATIENCE_S = 90


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    database.create()
    yield database
    database.close()


@pytest.fixture
def address(database: Database) -> Iterator[str]:
    api = FastAPI()
    api.include_router(consumer_routes.router(Consumers(database)))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(api, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def write(database: Database, device: str) -> None:
    """A device's results, as a replica of the ingest stores them."""
    ingest = Ingest(database, known)
    opened = ingest.open(device, 1)
    for first in range(1, 1 + BATCHES * ROWS, ROWS):
        arriving = ReceivedBatch(opened.stream, device, first, ROWS, batch(first, ROWS), first - 1)
        ingest.commit([arriving], int(time.time() * 1000))


def printed(file: Path) -> list[tuple[str, int]]:
    """What is whole of the lines."""
    lines = file.read_bytes().split(b"\n")[:-1]
    return [(one["device"], one["seq"]) for one in map(json.loads, lines)]


def follow(address: str, output: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cloud.cli", "results", "follow", "billing", "--api", address]
    with output.open("wb") as file:
        return subprocess.Popen([*command, *more], stdout=file)


def test_no_result_is_missing_however_often_the_consumer_is_killed(
    database: Database, address: str, tmp_path: Path
) -> None:
    chance = random.Random(3)
    devices = [f"edge-{i}" for i in range(DEVICES)]
    writers = [threading.Thread(target=write, args=(database, device)) for device in devices]
    outputs = [tmp_path / f"{number}.jsonl" for number in range(KILLS + 1)]
    for writer in writers:
        writer.start()
    for output in outputs[:KILLS]:
        process = follow(address, output, "--limit", "20")  # so few that five lives cannot read all
        until_it_prints(process, output)
        time.sleep(chance.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for writer in writers:
        writer.join()
    assert follow(address, outputs[KILLS], "--once").wait(PATIENCE_S) == 0
    every = [key for output in outputs for key in printed(output)]
    assert set(every) == {(device, seq) for device in devices for seq in range(1, 1 + BATCHES * ROWS)}
    assert len(every) > len(printed(outputs[KILLS]))  # the killed ones had their part


def until_it_prints(process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not printed(output) and process.poll() is None:
        assert time.monotonic() < deadline, "it prints nothing"
        time.sleep(0.01)
    assert process.poll() is None, "it has ended by itself"
