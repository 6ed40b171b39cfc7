"""Child processes that never outlive their parent, however the parent ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

# Runs in the child before the real program: ask the kernel for a signal when the parent ends, and end at once if it
# already has. prctl(2) is Linux's; elsewhere the child starts all the same.
_BOUND = """
import ctypes, os, sys
parent = int(sys.argv[1])
try:
    ctypes.CDLL(None).prctl(1, int(sys.argv[2]))
except (OSError, AttributeError):
    pass
if os.getppid() != parent:
    sys.exit("parent ended before the start")
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    print(f"{sys.argv[3]} cannot be started: {error.strerror}", file=sys.stderr)
    sys.exit(127)
"""


def bound_to(parent: int, command: Sequence[str], number: signal.Signals = signal.SIGTERM) -> list[str]:
    """The command line that runs `command` so that it gets a signal when process `parent` (its parent) ends.

    The kernel ties the signal to the thread that starts the child: start it from one that lasts as long as the process.
    It forgets the tie when the program changes its user or group, or is set-user-id.
    """
    return [sys.executable, "-I", "-c", _BOUND, str(parent), str(int(number)), *command]


def ending(returncode: int) -> str:
    """How a process ended, as the rest of a sentence about it."""
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"
