"""The images of this working copy, built on a base of Debian packages and brought to the nodes; each with two tags."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from simulators.kubernetes import Cluster, programs

ROOT = Path(__file__).resolve().parents[3]
OURS = ("cloud", "edge", "training")
BUNDLED = ("mosquitto", "postgresql")
NOW = version("littoral")
NEXT = f"{NOW}-next"
"""The same again under another tag: what an upgrade goes to."""


def build(cluster: Cluster, folder: Path, archive: Path) -> None:
    """Build them all into one archive; logs go to `folder`."""
    docker = {"DOCKER_HOST": f"unix://{cluster.docker()}"}
    base = subprocess.run([ROOT / "scripts" / "base-image"], check=True, stdout=subprocess.PIPE, text=True)
    _run(["docker", "import", base.stdout.strip(), "littoral-base"], docker, folder)
    ours = {**docker, "BASE": "littoral-base", "PYTHON": "3.11"}
    _run(["scripts/image", *OURS], ours, folder)
    _bring_bundled(ours, folder)
    names = [f"littoral-{name}:{NOW}" for name in (*OURS, *BUNDLED)]
    for name in ("cloud", "edge"):
        _run(["docker", "tag", f"littoral-{name}:{NOW}", f"littoral-{name}:{NEXT}"], docker, folder)
        names.append(f"littoral-{name}:{NEXT}")
    _run(["docker", "save", "--output", str(archive), *names], docker, folder)


def _bring_bundled(ours: Mapping[str, str], folder: Path) -> None:
    """Those of Debian's packages, which are installed while they are built: once, and then kept beside their base."""
    sources = [path.read_bytes() for name in BUNDLED for path in sorted((ROOT / "images" / name).iterdir())]
    kept = programs.cache() / f"bundled-{NOW}-{hashlib.sha256(b''.join(sources)).hexdigest()[:12]}.tar"
    if kept.exists():
        _run(["docker", "load", "--input", str(kept)], ours, folder)
        return
    _run(["scripts/image", *BUNDLED], {**ours, "BUILD_ARGS": "--network host"}, folder)
    made = kept.with_suffix(f".{os.getpid()}")
    _run(["docker", "save", "--output", str(made), *(f"littoral-{name}:{NOW}" for name in BUNDLED)], ours, folder)
    made.replace(kept)


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
    log = folder / "images.log"
    with log.open("ab") as output:
        done = subprocess.run(
            command, check=False, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output
        )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text(errors='replace')[-2000:]}")
