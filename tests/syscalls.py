"""Faults at system calls: a child's calls that change the files of one folder, counted; one is killed, torn or failed.

The kernel itself holds each call until it is answered here (seccomp's user notification, Linux 5.0): whatever library
makes the call, in whatever thread, it is seen before it happens, with the file that it is for. No other process, no
package and no privilege is needed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple


class Verdict(Enum):
    """What becomes of a call. An errno instead: it fails so, and nothing happens."""

    GO_ON = "go on"
    KILL = "kill"  # the process ends here; the call does not happen
    TEAR = "tear"  # half of the bytes are written, then the process ends


class Call(NamedTuple):
    """A call that would change a file. number: from 1, over all threads. source: what a rename takes `path` from."""

    number: int
    name: str
    path: Path
    source: Path | None = None


Decide = Callable[[Call], Verdict | int]


@dataclass(frozen=True, slots=True)
class End:
    """How the child ended. calls: all that it made until then."""

    killed: bool
    calls: list[Call]


def supervise(action: Callable[[], None], folder: Path, decide: Decide) -> End:
    """Run `action` in a child; `decide` what becomes of each call that would change something below `folder`.

    Raises AssertionError if the action fails by itself; its traceback is on standard error.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            _act(theirs, action)
        theirs.close()
        try:
            listener = socket.recv_fds(ours, 1, 1)[1][0]
            try:
                calls = _Supervisor(listener, child, folder, decide).watch()
            finally:
                os.close(listener)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}, f"the action failed (exit code {code})"
    return End(code != 0, calls)


def supported() -> bool:
    """Whether this machine's kernel tells of system calls."""
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    return platform.machine() in _NUMBERS and actions.exists() and "user_notif" in actions.read_text().split()


def _act(channel: socket.socket, action: Callable[[], None]) -> None:
    code = 1
    try:
        socket.send_fds(channel, [b"x"], [_install_filter()])
        action()
        code = 0
    except BaseException:  # noqa: BLE001 - this process ends here, whatever it was
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


class _Form(NamedTuple):
    """Which arguments of a call say what: the file (a descriptor, or a folder's descriptor and a name), the bytes."""

    numbers: tuple[int, int]  # on x86-64 and aarch64; -1: there is no such call
    descriptor: int | None = None
    at: int | None = None
    name: int | None = None
    source: tuple[int | None, int] | None = None  # like at and name
    size: int | None = None
    offset: int | None = None
    flags: int | None = None


_FORMS = {
    "write": _Form((1, 64), descriptor=0, size=2),
    "pwrite64": _Form((18, 68), descriptor=0, size=2, offset=3),
    "writev": _Form((20, 66), descriptor=0),
    "pwritev": _Form((296, 70), descriptor=0),
    "sendfile": _Form((40, 71), descriptor=0),
    "copy_file_range": _Form((326, 285), descriptor=2),
    "fsync": _Form((74, 82), descriptor=0),
    "fdatasync": _Form((75, 83), descriptor=0),
    "ftruncate": _Form((77, 46), descriptor=0),
    "fallocate": _Form((285, 47), descriptor=0),
    "fchmod": _Form((91, 52), descriptor=0),
    "truncate": _Form((76, 45), name=0),
    "open": _Form((2, -1), name=0, flags=1),
    "openat": _Form((257, 56), at=0, name=1, flags=2),
    "rename": _Form((82, -1), name=1, source=(None, 0)),
    "renameat": _Form((264, 38), at=2, name=3, source=(0, 1)),
    "renameat2": _Form((316, 276), at=2, name=3, source=(0, 1)),
    "link": _Form((86, -1), name=1),
    "linkat": _Form((265, 37), at=2, name=3),
    "unlink": _Form((87, -1), name=0),
    "unlinkat": _Form((263, 35), at=0, name=1),
    "mkdir": _Form((83, -1), name=0),
    "mkdirat": _Form((258, 34), at=0, name=1),
    "rmdir": _Form((84, -1), name=0),
}
_MACHINES = ("x86_64", "aarch64")
_NUMBERS = {
    machine: {form.numbers[i]: name for name, form in _FORMS.items() if form.numbers[i] >= 0}
    for i, machine in enumerate(_MACHINES)
}
_SECCOMP = {"x86_64": 317, "aarch64": 277}

_SET_MODE_FILTER, _NEW_LISTENER, _NO_NEW_PRIVS = 1, 8, 38
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_NOTICE = struct.Struct("=QII iIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_AT_CWD = 2**32 - 100


def _install_filter() -> int:
    """From now on this process's calls wait for an answer. Returns the descriptor on which they are told."""
    numbers = sorted(_NUMBERS[platform.machine()])
    steps = [(_LOAD, 0, 0, 0)]
    steps += [(_JUMP_IF_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = int(libc.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, _NEW_LISTENER, program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")
    return listener


class _Supervisor:
    """Answers one child's calls until it has ended."""

    def __init__(self, listener: int, child: int, folder: Path, decide: Decide) -> None:
        self._listener = listener
        self._child = child
        self._folder = folder.resolve()
        self._decide = decide
        self._names = _NUMBERS[platform.machine()]
        self._calls: list[Call] = []

    def watch(self) -> list[Call]:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            ((_, events),) = poll.poll()
            if events & select.POLLIN:
                with suppress(FileNotFoundError, ProcessLookupError):  # the child ended meanwhile
                    self._answer_one()
            elif events & select.POLLHUP:
                return self._calls

    def _answer_one(self) -> None:
        notice = bytearray(_NOTICE.size)
        fcntl.ioctl(self._listener, _RECEIVE, notice)
        identity, thread, _, number, _, _, *arguments = _NOTICE.unpack(notice)
        name = self._names[number]
        form = _FORMS[name]
        path = self._path(thread, form, arguments)
        verdict: Verdict | int = Verdict.GO_ON
        if path.is_relative_to(self._folder) and self._changes(form, arguments):
            source = self._named(thread, arguments, *form.source) if form.source else None
            self._calls.append(Call(len(self._calls) + 1, name, path, source))
            verdict = self._decide(self._calls[-1])
        if verdict is Verdict.TEAR:
            self._write_half(thread, form, arguments)
        if verdict in {Verdict.TEAR, Verdict.KILL}:
            os.kill(self._child, signal.SIGKILL)
            return
        error, flags = (0, _CONTINUE) if verdict is Verdict.GO_ON else (-int(verdict), 0)  # type: ignore[call-overload]
        fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(identity, 0, error, flags))

    def _path(self, thread: int, form: _Form, arguments: list[int]) -> Path:
        if form.descriptor is not None:
            return _opened(thread, arguments[form.descriptor])
        assert form.name is not None
        return self._named(thread, arguments, form.at, form.name)

    def _named(self, thread: int, arguments: list[int], at: int | None, name: int) -> Path:
        folder = arguments[at] & 0xFFFFFFFF if at is not None else _AT_CWD
        base = Path(f"/proc/{thread}/cwd").readlink() if folder == _AT_CWD else _opened(thread, folder)
        return Path(os.path.normpath(base / _text(thread, arguments[name])))  # links are not followed

    def _changes(self, form: _Form, arguments: list[int]) -> bool:
        return form.flags is None or bool(arguments[form.flags] & (os.O_CREAT | os.O_TRUNC))

    def _write_half(self, thread: int, form: _Form, arguments: list[int]) -> None:
        assert form.descriptor is not None
        assert form.size is not None
        descriptor = arguments[form.descriptor]
        data = _memory(thread, arguments[1], arguments[form.size] // 2)
        position = Path(f"/proc/{thread}/fdinfo/{descriptor}").read_text().split()[1]
        offset = arguments[form.offset] if form.offset is not None else int(position)
        file = os.open(f"/proc/{thread}/fd/{descriptor}", os.O_WRONLY)
        try:
            os.pwrite(file, data, offset)
        finally:
            os.close(file)


def _opened(thread: int, descriptor: int) -> Path:
    return Path(f"/proc/{thread}/fd/{descriptor & 0xFFFFFFFF}").readlink()


def _memory(thread: int, address: int, size: int) -> bytes:
    descriptor = os.open(f"/proc/{thread}/mem", os.O_RDONLY)
    try:
        return os.pread(descriptor, size, address)
    finally:
        os.close(descriptor)


def _text(thread: int, address: int) -> str:
    """A path in the child's memory, which may end at the end of a page."""
    text = b""
    while b"\0" not in text:
        piece = _memory(thread, address + len(text), 4096 - (address + len(text)) % 4096)
        if not piece:
            raise OSError(errno.EFAULT, "a path that cannot be read")
        text += piece
    return os.fsdecode(text.partition(b"\0")[0])
