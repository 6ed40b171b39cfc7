"""Starts a worker's training process, passes on what it tells, and ends it when it no longer does: no TensorFlow here.

When one worker dies, the others fail in the middle of an exchange, or wait for it for ever. So each one's process is
heard, a beat every few steps; one that is silent too long is killed. Whatever happens this ends, with an exit code by
which the Job decides (`Ending`), and with the reason in the termination message.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from cloud.training.entities import Ending, Order
from cloud.training.team import TF_CONFIG
from protos.kit.children import bound_to, ending

TERMINATION_LOG = Path("/dev/termination-log")
"""Where the kubelet reads why a container ended; it is there in every container of a pod."""

MOST_CHARACTERS = 3000
"""Of a reason: the kubelet keeps 4096 bytes of a message."""

PARTING_S = 30.0
"""How long a worker whose model is registered may take to take leave of the others."""

PRIVATE = {"beat", "done", "failed"}
"""What is told to the overseer alone; a failure is told by itself, whoever has noticed it."""


@dataclass(frozen=True)
class Patience:
    """How long a worker may be silent, in seconds: until all are there, while it trains, while the first one judges."""

    together: float = 600.0
    training: float = 120.0
    judging: float = 600.0

    def after(self, event: str) -> float:
        """How long to wait for the next word after this one."""
        if not event:
            return self.together
        if event == "registered":
            return PARTING_S
        return self.judging if event in ("judging", "waiting") else self.training


@dataclass(frozen=True, slots=True)
class End:
    """How it ended. told: the last line, as JSON."""

    code: Ending
    told: Mapping[str, Any]


def oversee(order: Order, patience: Patience, tell: Callable[[Mapping[str, Any]], None]) -> End:
    """Run one try of `order`; `tell` gets what is worth knowing, a line each, the last one being the end's."""
    with _asked_by_sigterm():
        try:
            end = _watch(order, patience, tell)
        except _Asked:
            end = failure(Ending.ASKED, "it was asked to end (SIGTERM)")
    if end.code is not Ending.DONE:
        tell({"worker": order.team.index, **end.told})
    return end


def failure(code: Ending, reason: str) -> End:
    """An end that is none of a trained model's."""
    return End(code, {"event": "failed", "code": int(code), "reason": reason[:MOST_CHARACTERS]})


def ended(returncode: int, last: Mapping[str, Any]) -> End:
    """How a process ended by its return code and the last that it told."""
    if last.get("event") in ("registered", "done"):
        return End(Ending.DONE, last)
    if last.get("event") == "failed":
        return failure(Ending(last["code"]), last["reason"])
    how = f"the training process {ending(returncode)}"
    if returncode == -signal.SIGKILL:
        return failure(Ending.KILLED, f"{how}: had it more memory than its limit?")
    return failure(Ending.FAILED, f"{how} and said nothing; its standard error says more")


def silent(last: Mapping[str, Any], seconds: float) -> End:
    """How a try ends whose process said nothing for so long after the last that it told."""
    event = last["event"]
    if event == "registered":
        return End(Ending.DONE, last)
    if not event:
        return failure(Ending.UNAVAILABLE, f"not all workers were there within {seconds:g} s: are all of them running?")
    return failure(
        Ending.PEER_LOST, f"nothing moved for {seconds:g} s after {event!r}: another worker is lost or hangs"
    )


def _watch(order: Order, patience: Patience, tell: Callable[[Mapping[str, Any]], None]) -> End:
    last: Mapping[str, Any] = {"event": ""}
    with _process(order) as child:
        lines = _Lines(child)
        while (line := lines.next(patience.after(last["event"]))) is not None:
            if not line:
                return silent(last, patience.after(last["event"]))
            told = json.loads(line)
            if told["event"] not in PRIVATE:
                tell({"worker": order.team.index, **told})
            if last["event"] != "registered":  # which is the last word, whatever comes of taking leave
                last = told
        return ended(child.wait(), last)


class _Lines:
    """What a child writes, line by line."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        self._file = child.stdout.fileno()
        self._read = b""

    def next(self, seconds: float) -> bytes | None:
        """The next line; nothing: none came in time; None: the child has closed its end."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._read:
            if not select.select([self._file], [], [], max(deadline - time.monotonic(), 0))[0]:
                return b""
            if not (data := os.read(self._file, 1 << 16)):
                return None
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line


@contextmanager
def _process(order: Order) -> Iterator[subprocess.Popen[bytes]]:
    """The training process, which does not outlive this block, nor this process."""
    command = [sys.executable, "-P", "-m", "cloud.training.worker", json.dumps(asdict(order))]
    # Not by SIGTERM, which TensorFlow keeps to itself.
    bound = bound_to(os.getpid(), command, signal.SIGKILL)
    child = subprocess.Popen(bound, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=_environment(order))
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _environment(order: Order) -> dict[str, str]:
    """So that the process finds the same code, and TensorFlow the others; native lines only of what is wrong."""
    mine = {name: value for name, value in os.environ.items() if name != TF_CONFIG}
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    team = {TF_CONFIG: order.team.tf_config()} if len(order.team) > 1 else {}
    return {"TF_CPP_MIN_LOG_LEVEL": "2"} | mine | team | {"PYTHONPATH": os.pathsep.join(paths)}


class _Asked(Exception):
    """SIGTERM came."""


@contextmanager
def _asked_by_sigterm() -> Iterator[None]:
    def asked(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _Asked

    before = signal.signal(signal.SIGTERM, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
