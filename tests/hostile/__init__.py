"""An interpreter with faults: `FOLDER` first in a worker's PYTHONPATH takes the place of the real one."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
FRAGILE, CRASH, HANG, EAT, NAN, RAISE, SLOW = range(249, 256)
"""The first pixel of a frame on which it happens; FRAGILE is a crash of a model whose text says so, nothing else."""
