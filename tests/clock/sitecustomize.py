"""A clock that can be set: Python processes whose PYTHONPATH begins with this folder read a file for it.

The file named by LITTORAL_TEST_CLOCK holds the seconds by which their clock is wrong; it may change while they run.
"""

import os
import time
from pathlib import Path

_FILE = Path(os.environ["LITTORAL_TEST_CLOCK"])
_time_ns = time.time_ns


def _wrong_ns() -> int:
    return max(0, _time_ns() + int(_FILE.read_text() or 0) * 1_000_000_000)


time.time_ns = _wrong_ns
time.time = lambda: _wrong_ns() / 1e9
