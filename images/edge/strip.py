"""Take from installed packages what a device never runs: their tests, and what only compilers read."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

FOLDERS = ("tests", "include")
UNUSED = (
    "cloud",
    "simulators",
    "ai_edge_litert/aot",
    "ai_edge_litert/tools",
    "ai_edge_litert/vendors",
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so",
    "numpy/distutils",
    "numpy/f2py",
    "zstandard/_cffi.*",  # CPython has the other backend
)
"""Parts of packages that the agent does not load: the cloud's side, converters, compilers for other makers' chips."""

SUFFIXES = {".pyi", ".pxd", ".pyx", ".h", ".hpp", ".a", ".c"}


def main(root: Path) -> None:
    """Remove them below `root`."""
    unused = [path for pattern in UNUSED for path in root.glob(pattern)]
    folders = [path for name in FOLDERS for path in root.rglob(name)]
    sources = [path for path in root.rglob("*") if path.suffix in SUFFIXES]
    for path in [*unused, *folders, *sources]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
