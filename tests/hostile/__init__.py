"""An interpreter with faults: `FOLDER` first in a worker's PYTHONPATH takes the place of the real one."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
CRASH, HANG, EAT, NAN, RAISE, SLOW = range(250, 256)
"""The first pixel of a frame on which it happens."""
