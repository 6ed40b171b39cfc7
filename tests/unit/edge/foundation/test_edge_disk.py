"""What a device says of its disk."""

from __future__ import annotations

import errno
import os

import pytest

from edge.foundation.disk import told


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EIO, "check it"), (errno.EROFS, "check it")],
)
def test_a_disk_s_error_says_which_file_and_what_to_do(number: int, remedy: str) -> None:
    error = OSError(number, os.strerror(number), "/data/model.tflite")
    assert all(part in told(error) for part in (os.strerror(number), "/data/model.tflite", remedy))


def test_another_error_speaks_for_itself() -> None:
    assert told(TimeoutError("2 chunks have not come")) == "2 chunks have not come"
    assert told(ConnectionResetError()) == "ConnectionResetError"
