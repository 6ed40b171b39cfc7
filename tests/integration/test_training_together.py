"""Two workers train together on this machine, as the pods of a Job do, and register over the API of a real cloud."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import httpx
import pytest

from cloud.training.entities import Ending
from simulators.ports import free_port

pytestmark = pytest.mark.timeout(1200)
EPOCHS = 8
WORKERS = 2


@dataclass(frozen=True)
class Api:
    address: str

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.address}{path}", trust_env=False).json()

    def versions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/models")
        return found


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder, port = tmp_path_factory.mktemp("cloud"), free_port()
    command = [sys.executable, "-m", "cloud.cli", "serve", "--role", "api", "--dir", str(folder)]
    cloud = subprocess.Popen([*command, "--api-port", str(port)], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).is_success:
                    break
            except httpx.TransportError:
                assert cloud.poll() is None
            sleep(0.1)
        yield Api(f"http://127.0.0.1:{port}")
    finally:
        cloud.kill()
        cloud.wait()


class Worker:
    """One worker's process; `lines` are those that it told and that were read."""

    def __init__(self, index: int, arguments: list[str], folder: Path) -> None:
        self.log = folder / f"termination-{index}"
        environment = os.environ | {"JOB_COMPLETION_INDEX": str(index)}
        command = [sys.executable, "-m", "cloud.cli", "train-worker", *arguments, "--termination-log", str(self.log)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self.lines: list[dict[str, Any]] = []

    def until(self, event: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"{event} was not told: {self.lines}")

    def end(self) -> int:
        assert self.process.stdout is not None
        self.lines += [json.loads(line) for line in self.process.stdout]
        return self.process.wait()

    def children(self) -> list[int]:
        """Its process that trains, once there is one."""
        place = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while not (found := place.read_text().split()):
            sleep(0.01)
        return [int(child) for child in found]

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]

    def message(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.log.read_text())
        return said


@contextmanager
def team(api: Api, folder: Path, run: str, *more: str) -> Iterator[list[Worker]]:
    """All workers, as a Job starts them; also a second time, after they ended."""
    folder.mkdir(exist_ok=True)
    peers = [f"127.0.0.1:{free_port()}" for _ in range(WORKERS)]
    config = {"cluster": {"worker": peers}}
    with ExitStack() as stack:
        workers = []
        for index in range(WORKERS):
            os.environ["TF_CONFIG"] = json.dumps({**config, "task": {"type": "worker", "index": index}})
            arguments = ["--run", run, "--epochs", str(EPOCHS), "--checkpoints", str(folder / f"own-{index}")]
            workers.append(Worker(index, [*arguments, "--api", api.address, *more], folder))
            stack.callback(workers[-1].process.wait)
            stack.callback(workers[-1].process.kill)
        del os.environ["TF_CONFIG"]
        yield workers


@pytest.fixture(scope="module")
def calm(api: Api, tmp_path_factory: pytest.TempPathFactory) -> list[Worker]:
    """A training that nothing disturbed."""
    with team(api, tmp_path_factory.mktemp("calm"), "calm") as workers:
        assert [worker.end() for worker in workers] == [Ending.DONE, Ending.DONE]
    return workers


def version_of(api: Api, run: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/api/v1/registrations/{run}")
    return found


def files(version: dict[str, Any]) -> dict[str, str]:
    return {variant["name"]: variant["digest"] for variant in version["variants"]}


def test_two_workers_train_and_the_first_registers_what_they_trained(api: Api, calm: list[Worker]) -> None:
    assert calm[0].events() == ["started", *["epoch"] * EPOCHS, "judging", "registered"]
    assert calm[1].events() == ["started", *["epoch"] * EPOCHS, "waiting"]
    assert [line["epoch"] for line in calm[0].lines if line["event"] == "epoch"] == list(range(1, EPOCHS + 1))
    version = version_of(api, "calm")
    assert version["accuracy_int8"] > 0.9
    assert version["lineage"]["parameters"]["workers"] == "2"
    assert version["lineage"]["restarts"] == 0
    assert len(version["lineage"]["dataset_digest"]) == 64
    assert calm[0].message() | version == calm[0].message() | version  # the pod's last word names the version
    assert (calm[0].message()["event"], calm[0].message()["version"]) == ("registered", version["version"])


def test_all_workers_have_seen_the_same_training(calm: list[Worker]) -> None:
    told = [[{**line, "worker": 0} for line in worker.lines if line["event"] == "epoch"] for worker in calm]
    assert told[0] == told[1]


@pytest.mark.usefixtures("calm")
def test_a_training_whose_workers_were_killed_ends_as_if_nothing_had_been_and_registers_once(
    api: Api, tmp_path: Path
) -> None:
    for killed, other, when in ((1, 0, "epoch"), (0, 1, "epoch"), (0, 1, "judging")):
        with team(api, tmp_path, "killed") as workers:
            workers[killed].until(when)
            workers[killed].process.send_signal(signal.SIGKILL)
            assert workers[other].end() == Ending.PEER_LOST
            assert "another worker" in workers[other].message()["reason"]
    with team(api, tmp_path, "killed") as workers:
        assert [worker.end() for worker in workers] == [Ending.DONE, Ending.DONE]
    assert workers[0].events() == ["started", "resumed", "judging", "registered"]
    disturbed = version_of(api, "killed")
    assert disturbed["lineage"]["restarts"] == 3
    assert files(disturbed) == files(version_of(api, "calm"))
    assert not list(tmp_path.glob("own-*/*"))


def test_a_run_that_is_repeated_has_registered_already(api: Api, calm: list[Worker], tmp_path: Path) -> None:
    before = api.versions()
    with team(api, tmp_path, "calm") as workers:
        assert [worker.end() for worker in workers] == [Ending.DONE, Ending.DONE]
    assert [worker.events() for worker in workers] == [["registered"], ["registered"]]
    assert workers[0].lines[0]["version"] == calm[0].lines[-1]["version"]
    assert api.versions() == before


def test_workers_whose_other_one_hangs_do_not_wait_for_it_for_ever(api: Api, tmp_path: Path) -> None:
    with team(api, tmp_path, "hanging", "--silence-s", "15") as workers:
        workers[1].until("epoch")
        for child in workers[1].children():
            os.kill(child, signal.SIGSTOP)
        assert [worker.end() for worker in workers] == [Ending.PEER_LOST, Ending.PEER_LOST]
    assert "nothing moved for 15 s" in workers[1].message()["reason"]


def test_a_worker_that_stays_alone_gives_up(api: Api, tmp_path: Path) -> None:
    with team(api, tmp_path, "alone", "--together-s", "3") as workers:
        workers[1].process.kill()
        assert workers[0].end() == Ending.UNAVAILABLE
    assert "not all workers were there within 3 s" in workers[0].message()["reason"]


def test_data_that_cannot_be_read_end_a_worker_for_good(api: Api, tmp_path: Path) -> None:
    with team(api, tmp_path, "nodata", "--data", str(tmp_path / "nowhere")) as workers:
        assert [worker.end() for worker in workers] == [Ending.REFUSED, Ending.REFUSED]
    assert "nowhere is no folder" in workers[0].message()["reason"]


def test_a_worker_that_is_asked_to_end_does_so_and_says_it(api: Api, tmp_path: Path) -> None:
    with team(api, tmp_path, "asked") as workers:
        assert workers[0].children()
        workers[0].process.terminate()
        assert workers[0].end() == Ending.ASKED
    assert workers[0].message()["reason"] == "it was asked to end (SIGTERM)"
