"""Generate the Python code of `protos/v1`, or check that what is committed is what would be generated.

python scripts/generate_protos.py            write
python scripts/generate_protos.py --check    exit 1 and name the stale files
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("protos/v1")


def generate(into: Path) -> None:
    """Write `*_pb2.py`, `*_pb2.pyi`, and `*_pb2_grpc.py` where a file has services, below `into`."""
    sources = sorted((ROOT / FOLDER).glob("*.proto"))
    with_services = [path for path in sources if "\nservice " in path.read_text()]
    _protoc([f"--python_out={into}", f"--pyi_out={into}"], sources)
    _protoc([f"--grpc_python_out={into}"], with_services)


def _protoc(outputs: list[str], sources: list[Path]) -> None:
    arguments = ["protoc", f"-I{ROOT}", *outputs, *(str(path) for path in sources)]
    if protoc.main(arguments) != 0:
        sys.exit(f"protoc failed: {' '.join(arguments)}")


def stale() -> list[str]:
    """Names of generated files that are missing, differ, or have no source any more."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        wanted = {path.name: path.read_bytes() for path in (fresh / FOLDER).iterdir()}
    present = {path.name: path.read_bytes() for path in (ROOT / FOLDER).glob("*_pb2*.py*")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def main() -> None:
    """Write or check, by the arguments."""
    if sys.argv[1:] == ["--check"]:
        if names := stale():
            sys.exit(f"stale in {FOLDER}: {', '.join(names)}. Run: make protos")
        return
    for path in (ROOT / FOLDER).glob("*_pb2*.py*"):
        path.unlink()
    shutil.rmtree(ROOT / FOLDER / "__pycache__", ignore_errors=True)
    generate(ROOT)


if __name__ == "__main__":
    main()
