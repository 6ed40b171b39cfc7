"""The steps in which a machine is set up: commands that must succeed, and things to wait for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 120.0


def run(*command: str | Path) -> None:
    """Run a command to its end. Raises RuntimeError with what it said."""
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed: {done.stderr.strip() or done.stdout.strip()}")


def succeeds(*command: str | Path) -> bool:
    """Whether a command ends well."""
    return subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


def until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until it holds. Raises TimeoutError with what was waited for."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(what())
        time.sleep(0.1)
