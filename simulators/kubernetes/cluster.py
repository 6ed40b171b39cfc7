"""A cluster of two nodes that run real pods, on this machine alone, and what can be done to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simulators.kubernetes import programs
from simulators.kubernetes.layout import NODES
from simulators.kubernetes.node_settings import PLUGINS
from simulators.kubernetes.programs import NoKubernetes

_PACKAGES = Path(__file__).resolve().parents[2]
_NEEDED = ("containerd", "ctr", "runc", "iptables", "ipset", "ip", "nsenter", "unshare", "setpriv", "dockerd")


class ClusterFailed(Exception):
    """An order could not be carried out; the message is what the cluster said."""


@dataclass(frozen=True, slots=True)
class Said:
    """How a command on a node ended, and what it said."""

    code: int
    out: str
    err: str


class Cluster:
    """A cluster that is up. kubeconfig: a file, with all rights."""

    nodes = NODES

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._log = folder / "machine.log"
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(self._order("start")["kubeconfig"])

    def cut(self, node: str) -> None:
        """Take a node's network away: its pods run on, and nobody reaches them."""
        self._order("cut", node)

    def heal(self, node: str) -> None:
        """Give a node its network back."""
        self._order("heal", node)

    def load(self, archive: Path) -> None:
        """Bring the images of an archive, as `docker save` writes it, to every node; use them by their names there."""
        self._order("load", str(archive))

    def on(self, node: str, *command: str) -> Said:
        """Run a command on a node, as its root: also while it is cut off. /var/lib is the node's own."""
        return Said(**self._order("on", node, list(command)))

    def docker(self) -> Path:
        """Start a Docker for building images, apart from the machine's; gives its socket. It ends with the cluster."""
        return Path(self._order("docker", os.getgid())["socket"])

    def check(self) -> None:
        """Raise ClusterFailed if a program of the cluster has ended."""
        self._order("check")

    def _order(self, order: str, *arguments: object) -> dict[str, Any]:
        orders, answers = _ends(self._process)
        orders.write(json.dumps({"order": order, "arguments": arguments}) + "\n")
        orders.flush()
        answer = json.loads(answers.readline() or json.dumps({"failed": self._log.read_text()}))
        if "done" not in answer:
            raise ClusterFailed(answer["failed"])
        done: dict[str, Any] = answer["done"]
        return done


def _ends(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise ValueError("the cluster's process takes no orders")
    return process.stdin, process.stdout


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Two nodes, their files in `folder`; only the logs are left of it afterwards. Raises NoKubernetes."""
    before = as_root()
    with (folder / "machine.log").open("wb") as log:
        program = [sys.executable, "-m", "simulators.kubernetes.machine", str(folder)]
        process = subprocess.Popen(
            [*before, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=_PACKAGES
        )
    try:
        yield Cluster(folder, process)
    finally:
        _ends(process)[0].close()
        process.wait()


def as_root() -> Sequence[str]:
    """What goes before a command to run it as root, with our settings. Raises NoKubernetes where that cannot be."""
    made = programs.folder()
    path = os.pathsep.join(["/usr/sbin", "/sbin", os.environ["PATH"]])
    missing = [name for name in _NEEDED if not shutil.which(name, path=path)]
    if missing or not PLUGINS.is_dir():
        raise NoKubernetes(
            f"missing for a cluster: {', '.join(missing or [str(PLUGINS)])}; scripts/setup cluster installs it"
        )
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    settings = {"PATH": path, "PYTHONPATH": _PACKAGES, "PYTHONDONTWRITEBYTECODE": 1, "LITTORAL_CACHE": made.parent}
    before = [*root, "env", *(f"{name}={value}" for name, value in settings.items())]
    tried = subprocess.run(
        [*before, "unshare", "--net", "--pid", "--mount", "--fork", "true"],
        check=False,
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        raise NoKubernetes(
            f"no rights here to make a cluster's namespaces ({tried.stderr.strip()}): run as root, or `sudo -v` first"
        )
    return before
