"""What is wrong with this device's disk, in words that say what to do."""

from __future__ import annotations

import errno

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FAILING = frozenset({errno.EIO, errno.EROFS})


def told(error: OSError) -> str:
    """One sentence; of an error that is not a disk's what it says itself."""
    if error.errno in FULL:
        return f"{error}; make room on the disk"
    if error.errno in FAILING:
        return f"{error}; the disk may be failing: check it"
    return str(error) or type(error).__name__
