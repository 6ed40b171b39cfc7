"""Where a cluster keeps what is large: images are half a million files, and to remove them one by one takes minutes.

So they lie in a file system of their own, within one file, which goes as a whole.
"""

from __future__ import annotations

from pathlib import Path

from simulators.kubernetes.steps import succeeds

SIZE = 128 * 1024**3
"""As much as it could hold; what it does not hold takes no room."""


def mount(place: Path, file: Path) -> None:
    """Make `place` a file system within `file`; where this machine has no device for that it is a plain folder.

    It ends with the mount namespace of who calls this.
    """
    place.mkdir()
    with file.open("wb") as made:
        made.truncate(SIZE)
    # No journal: nobody reads it after a crash.
    made_here = succeeds("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", file)
    if not (made_here and succeeds("mount", "-o", "loop,noatime", file, place)):
        file.unlink()
