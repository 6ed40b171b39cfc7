"""Programs that run beside each other until all are ended, each with its log."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from simulators.kubernetes.steps import until

STOP_S = 20.0
TAIL_LINES = 20


class Ended(Exception):
    """A program ended that should run on; the message has its name and the end of its log."""


class Daemons:
    """Starts programs in `folder`, their logs in `folder/logs`. They are killed when this process ends.

    Use it in the main thread: the kernel binds a child to the thread that started it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path], *, inherited: Sequence[int] = ()) -> int:
        """Start a program and return its process id. inherited: descriptors that it takes over."""
        with (self._logs / f"{name}.log").open("ab") as log:
            bound = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
            made = subprocess.Popen(
                bound,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=inherited,
            )
        self._running[name] = made
        return made.pid

    def check(self) -> None:
        """Raise Ended if one of them does not run any more."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise Ended(f"{name} ended with {process.returncode}; the end of its log:\n{self.tail(name)}")

    def until(self, holds: Callable[[], bool], name: str) -> None:
        """Wait until it holds. Raises Ended if one of them ends before, TimeoutError with the end of `name`'s log."""

        def held() -> bool:
            self.check()
            return holds()

        until(held, lambda: f"{name} does not answer; the end of its log:\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        """The last lines of a program's log."""
        return "\n".join((self._logs / f"{name}.log").read_text(errors="replace").splitlines()[-TAIL_LINES:])

    def stop(self) -> None:
        """End them, the last one first: those that others need were started before them."""
        while self._running:
            _, process = self._running.popitem()
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
