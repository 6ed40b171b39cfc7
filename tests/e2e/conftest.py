"""The loop's parts for end-to-end tests: data, a registry trained once, and worlds that start from a copy of it."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from simulators.demo.processes import PACKAGES, Processes
from simulators.demo.world import Plan, World

MNIST = PACKAGES.parent / "shared" / "data" / "mnist"
EPOCHS = {"digits": (4, 12), "mnist": (1, 5)}
AGENTS = 3

MakeWorld = Callable[[str], World]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest) -> str:
    kind = str(request.param)
    if kind == "mosquitto" and shutil.which(kind) is None:
        pytest.skip("Mosquitto is not installed: scripts/setup test installs it")
    return kind


@pytest.fixture(scope="session")
def data() -> str:
    """Real MNIST, or the embedded digits where it is missing."""
    if MNIST.is_dir():
        return str(MNIST)
    warnings.warn(f"{MNIST} is missing: the embedded digits stand in for MNIST", stacklevel=1)
    return "digits"


@pytest.fixture(scope="session")
def registry(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cloud's data folder, made once: version 1 is trained briefly, 2 longer, 3 is damaged."""
    folder = tmp_path_factory.mktemp("registry")
    with Processes(folder) as processes:
        world = World(folder, Plan(AGENTS, data), processes)
        for epochs in EPOCHS["digits" if data == "digits" else "mnist"]:
            world.train(epochs)
        world.publish_bad()
    return folder


@pytest.fixture
def make_world(data: str, registry: Path, tmp_path: Path) -> Iterator[MakeWorld]:
    """Make a world over the given broker, from a copy of the registry; all its processes end with the test."""
    with ExitStack() as stack:

        def make(broker: str) -> World:
            folder = tmp_path / "world"
            shutil.copytree(registry, folder)
            processes = stack.enter_context(Processes(folder))
            return World(folder, Plan(AGENTS, data, broker), processes)

        yield make
