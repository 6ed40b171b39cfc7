"""Kills at every instruction that changes the disk: the action runs in a child process that ends there, uncleaned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

ACTS = ("fsync", "fdatasync", "replace", "rename", "link", "mkdir", "rmdir", "unlink", "open", "write", "pwrite")
_KILLED = 77


def each_kill(prepare: Callable[[], None], action: Callable[[], None]) -> Iterator[int]:
    """Run `prepare`, then `action` with a kill just before its act number 1, 2, ...; yields after each kill.

    Ends after the first time that the action comes through. At least one kill must have happened.
    """
    number = 0
    while True:
        prepare()
        if not _killed(number + 1, action):
            break
        number += 1
        yield number
    assert number, "the action changed nothing on the disk"


def _killed(number: int, action: Callable[[], None]) -> bool:
    child = os.fork()
    if child == 0:
        _end_at(number)
        action()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, _KILLED}, f"the action failed with exit code {code}"
    return code == _KILLED


def _end_at(number: int) -> None:
    left = number

    def counted(act: Callable[..., object]) -> Callable[..., object]:
        def before(*arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(_KILLED)
            return act(*arguments, **options)

        return before

    for name in ACTS:
        setattr(os, name, counted(getattr(os, name)))
