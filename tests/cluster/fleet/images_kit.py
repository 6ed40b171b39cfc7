"""The images of this working copy, built on a base of Debian packages and brought to the nodes; each with two tags."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from simulators.kubernetes import Cluster

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
    # These two install Debian's packages while they are built.
    _run(["scripts/image", *BUNDLED], {**ours, "BUILD_ARGS": "--network host"}, folder)
    names = [f"littoral-{name}:{NOW}" for name in (*OURS, *BUNDLED)]
    for name in ("cloud", "edge"):
        _run(["docker", "tag", f"littoral-{name}:{NOW}", f"littoral-{name}:{NEXT}"], docker, folder)
        names.append(f"littoral-{name}:{NEXT}")
    _run(["docker", "save", "--output", str(archive), *names], docker, folder)


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
    log = folder / "images.log"
    with log.open("ab") as output:
        done = subprocess.run(
            command, check=False, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output
        )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text(errors='replace')[-2000:]}")
