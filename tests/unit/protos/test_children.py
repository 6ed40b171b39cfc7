"""A child process ends when its parent does, however that ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from protos.kit.children import bound_to

PARENT = """
import os, subprocess, sys, time
from protos.kit.children import bound_to
sleeper = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
child = subprocess.Popen(bound_to(os.getpid(), sleeper), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_it_runs_the_command_with_its_arguments_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITTORAL_TEST", "from the parent")
    program = "import os, sys; print(sys.argv[1:], os.environ['LITTORAL_TEST']); sys.exit(3)"
    command = bound_to(os.getpid(), [sys.executable, "-c", program, "a b", "--flag"])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "['a b', '--flag'] from the parent\n"
    assert done.returncode == 3


def test_the_process_that_was_started_is_the_command_itself(tmp_path: Path) -> None:
    """So that a signal to it reaches the command."""
    program = f"import os, pathlib; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    child = subprocess.Popen(bound_to(os.getpid(), [sys.executable, "-c", program]))
    child.wait()
    assert int((tmp_path / "pid").read_text()) == child.pid


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_it_ends_when_its_parent_is_killed(end: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    descriptor = os.pidfd_open(child)
    parent.send_signal(end)
    parent.wait()
    parent.stdout.close()
    assert has_ended(descriptor)


def test_it_does_not_start_when_its_parent_has_ended_already() -> None:
    done = subprocess.run(bound_to(1 << 30, ["true"]), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "parent ended before the start" in done.stderr


def test_a_program_that_is_not_there_is_named() -> None:
    done = subprocess.run(bound_to(os.getpid(), ["no-such-program"]), capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert done.stderr == "no-such-program cannot be started: No such file or directory\n"


def has_ended(pidfd: int) -> bool:
    """Wait for a process that is not our child; the pytest timeout is the bound."""
    try:
        return bool(select.select([pidfd], [], [])[0])
    finally:
        os.close(pidfd)
