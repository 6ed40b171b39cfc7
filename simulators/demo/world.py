"""One cloud, its agents and their sensors on this machine: the commands that a person would type, as children."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from simulators.demo.processes import POLL_S, Processes, listening
from simulators.ports import free_port

MODEL = "digits"
CLOUD = "cloud"
"""The cloud's data folder, below that of the world."""

SELECTOR = {"fleet": "demo"}
LIVELY = ("--telemetry-s", "1")
"""For whoever looks on: how the devices are, every second."""

SETTLE_S = 45.0  # for the sensors: to have everything acknowledged and its truth posted
RESTART_S = 15.0


class ApiFailed(Exception):
    """The API answered with an error. The message is its own."""


class TimedOut(Exception):
    """Something that should have happened did not. The message says what was awaited."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a person chose. data: "digits" or the absolute path of a folder with MNIST in IDX files."""

    agents: int
    data: str
    broker: str = "auto"
    rate: float = 100.0  # frames a second, each agent


class World:
    """Where everything runs, and how it is started, killed and asked."""

    def __init__(self, folder: Path, plan: Plan, processes: Processes) -> None:
        self.plan = plan
        self.processes = processes
        self.folder = folder
        self.devices = [f"edge-{number}" for number in range(1, plan.agents + 1)]
        self.api_port, self.ingest_port, self.broker_port = free_port(), free_port(), free_port()
        self.api_url = f"http://127.0.0.1:{self.api_port}"
        self.broker_url = f"mqtt://127.0.0.1:{self.broker_port}"
        self.watch: Callable[[], None] = lambda: None
        """Called again and again while something is awaited; the demo draws its table in it."""
        self._client = httpx.Client(base_url=self.api_url, timeout=10, trust_env=False)

    # The cloud.

    def train(self, epochs: int, *, visible: bool = False) -> None:
        """Train, judge, sign and register the model's next version: `littoral train`."""
        command = ["-m", "cloud.cli", "train", "--dir", CLOUD, "--data", self.plan.data, "--model", MODEL]
        self.processes.run("train", [*command, "--epochs", str(epochs)], self.watch, visible=visible)

    def publish_bad(self) -> None:
        """Register a damaged model as the next version: `littoral-sim bad-model`."""
        command = ["-m", "simulators.cli", "bad-model", "--dir", CLOUD, "--model", MODEL, "--data", self.plan.data]
        self.processes.run("bad-model", command, self.watch)

    def start_cloud(self) -> None:
        """Start API, ingest, publisher and controller with the embedded broker in one process: `littoral serve`."""
        self.processes.start("cloud", self.serve_command())

    def serve_command(self, *more: str) -> list[str]:
        """`littoral serve` on this world's ports, with `more` flags."""
        ports = ["--api-port", str(self.api_port), "--ingest-port", str(self.ingest_port)]
        broker = ["--broker-kind", self.plan.broker, "--broker-port", str(self.broker_port)]
        return ["-m", "cloud.cli", "serve", "--dir", CLOUD, *ports, *broker, *more]

    def cloud_ready(self) -> None:
        """Wait until every part of the cloud can do its work."""
        self.until("the cloud is ready", lambda: self._client.get("/readyz").is_success, within_s=60)

    def restart_cloud(self) -> None:
        """Kill the cloud as a power cut would, then start it again on the same ports."""
        self.processes.kill("cloud")
        self.until("the killed cloud's ports are free", lambda: not self._taken(), within_s=RESTART_S)
        self.start_cloud()

    def _taken(self) -> bool:
        return any(map(listening, (self.api_port, self.ingest_port, self.broker_port)))

    # The edge.

    def start_agent(self, device: str, *more: str) -> None:
        """Start one device's agent with its own data folder: `littoral-edge run`, with `more` flags."""
        addresses = ["--broker", self.broker_url, "--uplink", f"127.0.0.1:{self.ingest_port}"]
        identity = ["--id", device, "--dir", device, "--trust", f"{CLOUD}/trust.json", "--labels", "fleet=demo"]
        self.processes.start(device, ["-m", "edge.cli", "run", *identity, *addresses, *LIVELY, *more])

    def restart_agent(self, device: str) -> None:
        """Kill one agent as a power cut would, then start it again."""
        self.processes.kill(device)
        self.start_agent(device)

    def start_sensors(self) -> None:
        """Feed held-out digits to every agent until told to stop: `littoral-sim sensors`."""
        agents = [part for device in self.devices for part in ("--agent", f"{device}={device}/frames.sock")]
        feed = ["--rate", str(self.plan.rate), "--data", self.plan.data, "--api", self.api_url]
        # Told to end, sensors wait for what is open; in a hurry nobody does: what was not acknowledged was never taken.
        self.processes.start("sensors", ["-m", "simulators.cli", "sensors", *agents, *feed], expendable=True)

    def stop_sensors(self) -> None:
        """End the sensors once all they handed over is acknowledged, then wait until the results have arrived too."""
        self.processes.stop("sensors", within_s=SETTLE_S)
        self.until("every result has reached the database", lambda: not self.get("/api/v1/summary")["lost"], 60)

    # What a person asks.

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON is anything
        """The API's answer. Raises ApiFailed, or httpx.TransportError while it is away."""
        return _answer(self._client.get(path))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON is anything
        """The API's answer. Raises ApiFailed, or httpx.TransportError while it is away."""
        return _answer(self._client.post(path, json=body))

    def newest_version(self) -> int:
        """The last version that was registered."""
        return max(int(model["version"]) for model in self.get("/api/v1/models"))

    def roll_out(self, version: int, waves: Sequence[str] = ("1", "rest")) -> str:
        """Create a rollout through the API; returns its id."""
        gates = {"soak_s": 1, "lease_s": 30, "timeout_s": 60}
        request = {"model": MODEL, "version": version, "selector": SELECTOR, "waves": list(waves), "gates": gates}
        return str(self.post("/api/v1/rollouts", request)["id"])

    def rollout(self, rollout: str) -> Any:  # noqa: ANN401 - JSON is anything
        """One rollout as the API shows it."""
        return self.get(f"/api/v1/rollouts/{rollout}")

    def until(self, what: str, holds: Callable[[], bool], within_s: float) -> None:
        """Wait until `holds`. An API that is away counts as not yet. Raises TimedOut, or ProcessEnded."""
        deadline = time.monotonic() + within_s
        while not self._holds(holds):
            self.processes.check()
            if time.monotonic() > deadline:
                raise TimedOut(f"waited {within_s:g} s in vain until {what}")
            self.watch()
            time.sleep(POLL_S)

    @staticmethod
    def _holds(holds: Callable[[], bool]) -> bool:
        try:
            return holds()
        except httpx.TransportError:
            return False

    def devices_now(self) -> list[Any]:
        """The fleet as the API shows it; empty while the API is away."""
        try:
            return sorted(self.get("/api/v1/devices"), key=lambda device: str(device["id"]))
        except httpx.TransportError:
            return []

    def devices_online(self) -> bool:
        """Whether every agent has reported."""
        online = [device for device in self.get("/api/v1/devices") if device["online"]]
        return len(online) == len(self.devices)

    def rollout_ended(self, rollout: str) -> bool:
        """Whether a rollout has come to its end, good or bad."""
        return bool(self.rollout(rollout)["state"] in {"succeeded", "failed", "aborted"})


def _answer(response: httpx.Response) -> Any:  # noqa: ANN401 - JSON is anything
    if response.is_error:
        request = response.request
        raise ApiFailed(f"{request.method} {request.url.path}: {response.status_code} {response.text[:500]}")
    return response.json()
