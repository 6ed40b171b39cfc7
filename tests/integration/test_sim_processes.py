from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simulators.demo import processes as module
from simulators.demo.processes import PACKAGES, ProcessEnded, Processes, listening
from simulators.ports import free_port

SLEEPER = ["-c", "import time; print('ready', flush=True); time.sleep(600)"]
STUBBORN = [
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
]
FAILING = ["-c", "print('this is why'); raise SystemExit(3)"]


def until(holds: Callable[[], bool]) -> None:
    while not holds():  # pytest-timeout bounds it
        time.sleep(0.02)


def ready(processes: Processes, name: str) -> bool:
    return "ready" in processes.tail(name)


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A killed parent's children become zombies where nobody reaps them.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_leaving_ends_every_process_even_one_that_ignores_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.2)
    with Processes(tmp_path) as processes:
        children = [processes.start("sleeper", SLEEPER), processes.start("stubborn", STUBBORN)]
        until(lambda: ready(processes, "stubborn"))
    assert [child.process.returncode is not None for child in children] == [True, True]


def test_leaving_does_not_wait_for_an_expendable_process(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start("stubborn", STUBBORN, expendable=True)
        until(lambda: ready(processes, "stubborn"))
    assert child.process.returncode == -signal.SIGKILL


def test_children_end_when_this_process_is_killed(tmp_path: Path) -> None:
    program = f"""
import pathlib, sys, time
from simulators.demo.processes import Processes
processes = Processes(pathlib.Path(sys.argv[1]))
child = processes.start("sleeper", {SLEEPER!r})
while "ready" not in processes.tail("sleeper"):
    time.sleep(0.02)
print(child.process.pid, flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PACKAGES) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    until(lambda: ended(child))


def test_a_process_that_ends_unasked_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start("failing", FAILING)
        child.process.wait()
        with pytest.raises(ProcessEnded, match=r"(?s)failing ended with exit code 3.*this is why"):
            processes.check()


def test_a_command_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, pytest.raises(ProcessEnded, match=r"(?s)exit code 3.*this is why"):
        processes.run("failing", FAILING)


def test_a_command_that_succeeds_is_no_longer_watched(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.run("fine", ["-c", "pass"])
        processes.check()


def test_the_end_of_another_process_interrupts_a_command(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("failing", FAILING)
        with pytest.raises(ProcessEnded, match="failing ended with exit code 3"):
            processes.run("sleeper", SLEEPER)


def test_a_killed_process_can_be_started_again_under_its_name(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        first = processes.start("sleeper", SLEEPER)
        processes.kill("sleeper")
        assert first.process.returncode == -signal.SIGKILL
        processes.start("sleeper", SLEEPER)
        processes.check()


def test_a_process_that_does_not_stop_in_time_is_ended_and_told(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("stubborn", STUBBORN)
        until(lambda: ready(processes, "stubborn"))
        with pytest.raises(ProcessEnded, match="stubborn did not end within"):
            processes.stop("stubborn", within_s=0.1)


def test_a_free_port_is_one_on_which_nobody_listens() -> None:
    assert not listening(free_port())


def test_a_free_port_is_given_once_and_a_server_gets_it() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert listening(ports[0])


def test_settings_of_the_persons_own_cloud_do_not_reach_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITTORAL_BROKER", "mqtt://elsewhere")
    with Processes(tmp_path) as processes:
        processes.run("environment", ["-c", "import os; print(*os.environ)"])
        assert "PYTHONPATH" in processes.tail("environment")
        assert "LITTORAL_BROKER" not in processes.tail("environment")
