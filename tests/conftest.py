"""What holds for every test."""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from simulators.postgresql import Cluster, NoPostgresql, cluster

os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian puts Mosquitto; not on an ordinary user's PATH


# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A shell makes its background jobs deaf to Ctrl-C, and their children inherit it: the tests that press it would wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork this process come first: a child of a process with threads of gRPC may crash."""
    items.sort(key=lambda item: item.get_closest_marker("forks") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing may be missing: a test that would be skipped on a person's machine fails there."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A test that sets logging up does so for itself alone: its captured standard error is closed after it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL server for all tests of this process."""
    try:
        with cluster(durable=False) as made:
            yield made
    except NoPostgresql as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes empty databases, each by its URL; a test that asks for it runs once on each kind that the cloud can use."""
    if request.param == "sqlite":
        numbers = itertools.count(1)
        return lambda: f"sqlite:///{tmp_path / f'littoral-{next(numbers)}.db'}"
    server: Cluster = request.getfixturevalue("postgresql")
    return server.new_database


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    """One empty database."""
    return new_database()
