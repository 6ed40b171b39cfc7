"""The processes of one run: bound to this one, each with its log file, all ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from protos.kit.children import bound_to

STOP_S = 10.0
POLL_S = 0.25
TAIL_LINES = 20
PACKAGES = Path(__file__).resolve().parents[2]
"""The folder that holds our packages: children find them whatever folder they work in."""


class ProcessEnded(Exception):
    """A process ended that should not have, or ended badly. The message says which, how, and what it last wrote."""


@dataclass(frozen=True, slots=True)
class Child:
    """One started process. log: where its output goes; None: straight to standard error.

    expendable: nothing is lost with it, so that an end in a hurry does not wait for it.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None
    expendable: bool = False

    def complaint(self) -> str:
        """How it ended, and the end of its log."""
        text = f"{self.name} ended with {_ending(self.process.returncode)}"
        return f"{text}; the end of {self.log}:\n{tail(self.log)}" if self.log else text


class Processes:
    """Starts, kills and ends processes, all working in `folder`. A context manager: leaving it ends all.

    Use it in the main thread: the kernel binds a child to the thread that started it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._running: dict[str, Child] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, name: str, command: Sequence[str], *, expendable: bool = False) -> Child:
        """Start `command` (without the interpreter: `-m module arguments`) with its output appended to its log file."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            child = Child(name, self._spawn(command, output.fileno()), log, expendable)
        self._running[name] = child
        return child

    def run(
        self, name: str, command: Sequence[str], meanwhile: Callable[[], None] = lambda: None, *, visible: bool = False
    ) -> None:
        """Run `command` to its end, calling `meanwhile` again and again. Raises ProcessEnded if it fails.

        visible: its output is for the person, on standard error, rather than for the log.
        """
        if visible:
            child = Child(name, self._spawn(command, sys.stderr.fileno()), None)
            self._running[name] = child
        else:
            child = self.start(name, command)
        while child.process.poll() is None:
            self.check(besides=name)
            meanwhile()
            time.sleep(POLL_S)
        del self._running[name]
        if child.process.returncode:
            raise ProcessEnded(child.complaint())

    def check(self, besides: str = "") -> None:
        """Raise ProcessEnded if a process that should be running is not; the one named `besides` may end."""
        for child in list(self._running.values()):
            if child.process.poll() is not None and child.name != besides:
                raise ProcessEnded(child.complaint())

    def kill(self, name: str) -> None:
        """End it as a power cut would: SIGKILL."""
        child = self._running.pop(name)
        child.process.kill()
        child.process.wait()

    def stop(self, name: str, within_s: float = STOP_S) -> None:
        """Ask it to end (SIGTERM) and wait. Raises ProcessEnded if it does not end in time, or badly."""
        child = self._running.pop(name)
        child.process.terminate()
        try:
            child.process.wait(within_s)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
            raise ProcessEnded(f"{name} did not end within {within_s:g} s after SIGTERM:\n{tail(child.log)}") from None
        if child.process.returncode not in (0, -signal.SIGTERM):
            raise ProcessEnded(child.complaint())

    def close(self) -> None:
        """End every process: SIGTERM to all, SIGKILL to those that are expendable or still there after a while."""
        children = list(self._running.values())
        self._running.clear()
        for child in children:
            child.process.send_signal(signal.SIGKILL if child.expendable else signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for child in children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def environment(self) -> dict[str, str]:
        """The processes' environment: they find our packages, and what libraries write unasked goes to the folder.

        Settings meant for the person's own cloud and devices do not reach them.
        """
        temporary = self._folder / "tmp"
        temporary.mkdir(exist_ok=True)
        path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
        own_places = {"TMPDIR": str(temporary), "KERAS_HOME": str(temporary / "keras")}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LITTORAL_")}
        return {**inherited, **own_places, "PYTHONPATH": path}

    def tail(self, name: str) -> str:
        """The last lines of a process's log."""
        return tail(self._logs / f"{name}.log")

    def _spawn(self, command: Sequence[str], output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            bound_to(os.getpid(), [sys.executable, *command]),
            cwd=self._folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others in order
        )


def listening(port: int) -> bool:
    """Whether somebody accepts connections on `port` of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tail(log: Path | None) -> str:
    """The last lines of a log."""
    if log is None or not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
