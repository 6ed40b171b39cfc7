"""`littoral serve --role controller --cluster` follows the cluster, and goes on without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud.cluster.entities import ROLLOUTS
from simulators.ports import free_port
from tests.cluster.api.live_kit import NAMESPACE
from tests.cluster.api.objects_kit import Objects
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)


@contextmanager
def serving(folder: Path, kubeconfig: Path) -> Iterator[Path]:
    """A controller in a process of its own, with an embedded broker; gives its log."""
    flags = ["--role", "publisher", "--role", "controller", "--dir", str(folder / "data"), "--cluster"]
    flags += ["--broker-port", str(free_port()), "--cluster-namespace", NAMESPACE]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cloud.cli", "serve", *flags],
            env=os.environ | {"KUBECONFIG": str(kubeconfig)},
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: "cloud ready" in log.read_text() or process.poll() is not None)
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    assert code == 0, log.read_text()


def test_it_follows_the_cluster_and_ends_in_order(shore: Objects, controllers_kubeconfig: Path, tmp_path: Path) -> None:
    with serving(tmp_path, controllers_kubeconfig):
        shore.create(ROLLOUTS, {"model": "digits", "version": 1})
        until(lambda: shore.status(ROLLOUTS).get("phase") == "Pending")
        assert "digits" in shore.status(ROLLOUTS)["message"]
        shore.delete(ROLLOUTS)
        until(lambda: not shore.exists(ROLLOUTS))


def test_a_cluster_that_cannot_be_reached_does_not_hold_it_up(tmp_path: Path) -> None:
    with serving(tmp_path, tmp_path / "no-kubeconfig") as log:
        until(lambda: "the cluster cannot be followed" in log.read_text())
        until(lambda: "leading the rollouts" in log.read_text())
