"""Keeps TensorFlow's and LiteRT's native log lines from the terminal, unless something goes wrong."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import absl.logging


@contextmanager
def native_logs_hidden(*expected: type[Exception]) -> Iterator[TextIO]:
    """While it lasts, file descriptor 2 leads to a temporary file; yields the real standard error for our own lines.

    Native code writes past `sys.stderr`, so only the descriptor can be turned. After an exception that is not of
    the `expected` ones, everything that was hidden is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    absl.logging.set_verbosity(absl.logging.ERROR)
    sys.stderr.flush()
    with (
        tempfile.TemporaryFile() as hidden,
        os.fdopen(os.dup(2), "w", buffering=1) as real,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        os.dup2(hidden.fileno(), 2)
        try:
            yield real
        except expected:
            raise
        except Exception:
            hidden.seek(0)
            real.write(hidden.read().decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            os.dup2(real.fileno(), 2)
