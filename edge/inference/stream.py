"""The bytes of a sensor: a file that may grow, a FIFO, a serial port, or standard input."""

from __future__ import annotations

import os
import select
import stat
import sys
import termios
import time
import tty
from pathlib import Path

READ_BYTES = 64 * 1024
WAIT_S = 0.2
STDIN = Path("-")


class Stream:
    """Open. baud: of a serial port; 0: as it is set. Raises OSError, or ValueError for a baud rate that is none.

    is_file: what was read can be read again. can_wait: nothing is lost while it is not read. comes_back: once it is
    over, another may be had by its name.
    """

    def __init__(self, path: Path, baud: int) -> None:
        self._path = path
        self.descriptor = _opened(path)
        self.is_file = stat.S_ISREG(os.fstat(self.descriptor).st_mode)
        self.can_wait = not os.isatty(self.descriptor)
        self.comes_back = path != STDIN
        self._over = False
        if self.comes_back and not self.can_wait:
            try:
                _set_up(self.descriptor, baud)
            except BaseException:
                self.close()
                raise

    def seek(self, offset: int) -> None:
        """Read a file from there on."""
        if self.is_file:
            os.lseek(self.descriptor, offset, os.SEEK_SET)

    def read(self) -> bytes | None:
        """What has come; empty: nothing for WAIT_S; None: it is over. Raises OSError when a device is gone."""
        if self._over:
            return None
        readable, _, _ = select.select([self.descriptor], [], [], WAIT_S)
        data = os.read(self.descriptor, READ_BYTES) if readable else b""
        if data or not readable:
            return data
        if not self.comes_back:
            self._over = True
            return b"\n"  # its last line may have none
        if not self.is_file:
            raise OSError(f"{self._path} has ended")
        time.sleep(WAIT_S)
        return None if self._replaced() else b""

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)

    def _replaced(self) -> bool:
        """Whether a file that was read to its end has lost its name to another, or was emptied."""
        mine = os.fstat(self.descriptor)
        try:
            return not os.path.samestat(mine, self._path.stat()) or mine.st_size < self._at()
        except FileNotFoundError:
            return False

    def _at(self) -> int:
        return os.lseek(self.descriptor, 0, os.SEEK_CUR)


def _opened(path: Path) -> int:
    if path == STDIN:
        return os.dup(sys.stdin.fileno())
    if path.is_fifo():
        return os.open(path, os.O_RDWR | os.O_NONBLOCK)  # to write, too: so it does not end with its writer
    return os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)


def _set_up(descriptor: int, baud: int) -> None:
    """Bytes as they come, at this rate; what came before is dropped, since it may begin anywhere."""
    try:
        tty.setraw(descriptor)
        if baud:
            attributes = termios.tcgetattr(descriptor)
            attributes[4] = attributes[5] = getattr(termios, f"B{baud}")
            termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
        termios.tcflush(descriptor, termios.TCIFLUSH)
    except AttributeError as error:
        raise ValueError(f"{baud} baud is no rate of a serial port here") from error
    except termios.error as error:
        raise OSError(*error.args) from error
