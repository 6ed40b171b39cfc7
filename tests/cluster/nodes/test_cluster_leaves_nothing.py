"""Whatever ends a run, the machine is afterwards as it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators.kubernetes.cluster import as_root
from tests.cluster.missing import or_skipped
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

RUN = """
import sys, pathlib
from simulators.kubernetes import cluster
with cluster(pathlib.Path(sys.argv[1])) as made:
    print("up", flush=True)
    sys.stdin.read()
"""
SETTINGS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")


def _machine() -> dict[str, object]:
    """What a cluster could leave behind."""
    links = subprocess.run(["ip", "-brief", "link"], check=True, capture_output=True, text=True).stdout
    rules = subprocess.run([*as_root(), "iptables-save"], check=True, capture_output=True, text=True).stdout
    return {
        "links": {line.split("@")[0].split()[0] for line in links.splitlines()},
        "rules": [line for line in rules.splitlines() if line.startswith("-A")],
        "cgroups": set(Path("/sys/fs/cgroup").glob("*/littoral-*")),
        "disks": {disk.read_text() for disk in Path("/sys/block").glob("loop*/loop/backing_file")},
        "locks": set(Path("/run/littoral-clusters").glob("*")),
        "settings": {name: Path("/proc/sys", name).read_text() for name in SETTINGS},
        "routes": subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout,
    }


def _processes(folder: Path) -> list[str]:
    found = subprocess.run(["pgrep", "--full", str(folder)], check=False, capture_output=True, text=True)
    return found.stdout.split()


@pytest.fixture
def before() -> Iterator[dict[str, object]]:
    with or_skipped():
        yield _machine()


@pytest.fixture
def run(before: dict[str, object], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:  # noqa: ARG001 - it comes first
    """Another process with a cluster that is up."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def test_a_cluster_is_one_link_to_the_machine(before: dict[str, object], run: subprocess.Popen[str]) -> None:
    during = _machine()

    assert len(during["links"] - before["links"]) == 1  # type: ignore[operator]
    assert during["rules"] == before["rules"]
    assert during["settings"] == before["settings"]
    run.communicate()
    assert _machine() == before


def test_a_killed_run_leaves_nothing(before: dict[str, object], run: subprocess.Popen[str], tmp_path: Path) -> None:
    run.send_signal(signal.SIGKILL)

    until(lambda: not _processes(tmp_path))
    until(lambda: _machine() == before)
    assert {path.name for path in tmp_path.glob("*/*")} == {"logs"}


def test_what_a_cluster_leaves_whose_keeper_was_killed_goes_before_the_next(
    before: dict[str, object], run: subprocess.Popen[str], tmp_path: Path
) -> None:
    keeper = [it for it in _processes(tmp_path) if "machine" in Path(f"/proc/{it}/cmdline").read_text()]
    subprocess.run([*as_root(), "kill", "-KILL", *keeper], check=True)
    until(lambda: _processes(tmp_path) == [str(run.pid)])

    subprocess.run([*as_root(), sys.executable, "-m", "simulators.kubernetes.machine"], check=True)

    until(lambda: _machine() == before)
    assert {path.name for path in tmp_path.glob("*/*")} == {"logs"}
