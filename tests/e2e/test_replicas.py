"""Two replicas of every role share a PostgreSQL and a broker, and no folder but the keys; one of each is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from simulators.demo import script
from simulators.demo.findings import collect
from simulators.demo.processes import Processes
from simulators.demo.view import PlainView
from simulators.demo.world import CLOUD, MODEL, Plan, World
from simulators.ports import free_port
from simulators.postgresql import Cluster
from tests.e2e.service_address import service
from tests.mosquitto import Mosquitto, needs_mosquitto

ROLES = ("api", "ingest", "publisher", "controller")
REPLICAS = ("a", "b")
VIEW = PlainView(Console(stderr=True))

pytestmark = needs_mosquitto


class Replicated(World):
    """A world whose cloud is eight processes, each with a data folder of its own."""

    def __init__(self, folder: Path, plan: Plan, processes: Processes, database: str, broker: str) -> None:
        super().__init__(folder, plan, processes)
        self.broker_url = broker
        self._database = database
        self.ports = {name: [free_port() for _ in REPLICAS] for name in ("api", "ingest")}

    def start_cloud(self) -> None:
        """Start every replica of every role."""
        for role in ROLES:
            for number, replica in enumerate(REPLICAS):
                port = [f"--{role}-port", str(self.ports[role][number])] if role in self.ports else []
                command = ["-m", "cloud.cli", "serve", "--role", role, "--dir", f"{role}-{replica}", *port]
                self.processes.start(f"{role}-{replica}", [*command, *self._shared()])

    def train(self, epochs: int, *, visible: bool = False) -> None:
        """Train and register from a folder of its own, too."""
        command = ["-m", "cloud.cli", "train", "--dir", CLOUD, "--data", self.plan.data, "--model", MODEL]
        shared = [*self._shared()[:-2], "--offline-keys", "offline"]
        self.processes.run("train", [*command, "--epochs", str(epochs), *shared], self.watch, visible=visible)

    def _shared(self) -> list[str]:
        return [
            "--database",
            self._database,
            "--artifacts",
            "database",
            "--signing-keys",
            "keys",
            "--broker",
            self.broker_url,
        ]


@pytest.fixture
def world(tmp_path: Path, postgresql: Cluster) -> Iterator[Replicated]:
    mosquitto = Mosquitto(tmp_path, persistent=False)
    with asyncio.Runner() as runner, ExitStack() as stack:
        runner.run(mosquitto.start())
        stack.callback(lambda: runner.run(mosquitto.stop()))
        processes = stack.enter_context(Processes(tmp_path))
        made = Replicated(tmp_path, Plan(2, "digits"), processes, postgresql.new_database(), str(mosquitto.address))
        stack.enter_context(service(made.api_port, made.ports["api"]))
        stack.enter_context(service(made.ingest_port, made.ports["ingest"]))
        yield made


def test_a_model_reaches_the_fleet_and_every_result_the_database_while_one_replica_of_each_role_is_killed(
    world: Replicated,
) -> None:
    world.train(1)
    world.start_cloud()
    script.start_fleet(world, VIEW)
    rollout = world.roll_out(1)
    for role in ROLES:
        world.processes.kill(f"{role}-a")
    world.until("the rollout has ended", lambda: world.rollout_ended(rollout), within_s=120)
    assert world.rollout(rollout)["state"] == "succeeded"
    script.settle(world, 1)
    world.stop_sensors()
    summary = collect(world.get).summary
    assert summary["stored"] == summary["sent"] > 0
    assert (summary["lost"], summary["duplicated"]) == (0, 0)
