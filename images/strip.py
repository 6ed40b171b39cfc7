"""Take from installed packages what an image never runs: their tests, and what only compilers read.

python3 strip.py edge|cloud|training FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

FOLDERS = ("tests", "include")
ANYWHERE = (
    "numpy/distutils",
    "numpy/f2py",
    "zstandard/_cffi.*",  # CPython has the other backend
)
CONVERTERS = (
    "ai_edge_litert/aot",
    "ai_edge_litert/tools",
    "ai_edge_litert/vendors",
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so",
)
"""Parts of LiteRT that no interpreter loads: converters, compilers for other makers' chips."""

UNUSED = {
    "edge": (*ANYWHERE, *CONVERTERS, "cloud", "simulators"),
    "cloud": ANYWHERE,
    "training": (*ANYWHERE, *CONVERTERS),
}
"""Parts of packages that each image does not load."""

SUFFIXES = {".pyi", ".pxd", ".pyx", ".h", ".hpp", ".a", ".c"}


def main(image: str, root: Path) -> None:
    """Remove below `root` what `image` does not need."""
    unused = [path for pattern in UNUSED[image] for path in root.glob(pattern)]
    folders = [path for name in FOLDERS for path in root.rglob(name)]
    sources = [path for path in root.rglob("*") if path.suffix in SUFFIXES]
    for path in [*unused, *folders, *sources]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
