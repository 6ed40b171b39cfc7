"""The machine's part of a cluster, as root: what has to be undone in it, however a run ends.

It sees one link and one group of cgroups for each cluster; all else is in namespaces that end with their first process.
Started with a folder, it makes the cluster there and hands its own standard input and output over to the hub.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from simulators.kubernetes.hub import NAMESPACES, is_apart
from simulators.kubernetes.layout import NODES, Layout
from simulators.kubernetes.steps import run, succeeds, until

LOCKS = Path("/run/littoral-clusters")
CGROUPS = Path("/sys/fs/cgroup")
NETWORKS = 256
_GROUP = "littoral-"


def main(arguments: Sequence[str]) -> None:
    """Make a cluster in the folder that is the argument, and take it away when standard input ends.

    Without one, only remove what killed clusters left.
    """
    clean_up()
    for folder in arguments:
        _make(folder)


def _make(folder: str) -> None:
    with _claimed(folder) as number:
        layout = Layout(folder, number, f"{_GROUP}{number}")
        try:
            _make_cgroups(layout)
            _serve(layout)
        finally:
            _take_away(layout)


def clean_up() -> None:
    """Remove what clusters left here whose process was killed: their namespaces have ended with it."""
    LOCKS.mkdir(exist_ok=True)
    for number in {int(lock.name) for lock in LOCKS.iterdir()}:
        if (lock := _lock(number)) is not None:
            folder = lock.read()
            _take_away(Layout(folder, number, f"{_GROUP}{number}"))
            _release(number, lock)


@contextmanager
def _claimed(folder: str) -> Iterator[int]:
    """The number of a network that neither a cluster nor the machine itself uses."""
    used = subprocess.run(["ip", "-o", "address"], check=True, capture_output=True, text=True).stdout
    for number in range(NETWORKS):
        if f" 198.18.{number}." not in used and (lock := _lock(number)) is not None:
            lock.write(folder)
            lock.flush()
            yield number
            _release(number, lock)
            return
    raise RuntimeError(f"there are {NETWORKS} clusters here already")


def _lock(number: int) -> IO[str] | None:
    path = LOCKS / str(number)
    lock = path.open("a+")
    lock.seek(0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(), os.fstat(lock.fileno())):
            return lock
    except OSError:
        pass
    lock.close()  # somebody has it, or had it and has removed it
    return None


def _release(number: int, lock: IO[str]) -> None:
    (LOCKS / str(number)).unlink(missing_ok=True)
    lock.close()


def _serve(layout: Layout) -> None:
    network = os.open("/proc/self/ns/net", os.O_RDONLY)
    program = [sys.executable, "-m", "simulators.kubernetes.hub", *layout.options(), str(network)]
    bound = ["setpriv", "--pdeathsig", "KILL", *NAMESPACES, *program]
    with subprocess.Popen(bound, pass_fds=[network]) as hub:  # on our own standard input and output
        try:
            until(lambda: hub.poll() is not None or is_apart(hub.pid), lambda: "the hub gets no namespaces")
            run("ip", "link", "add", layout.link, "type", "veth", "peer", "name", "up0", "netns", str(hub.pid))
            run("ip", "address", "add", f"{layout.machine}/24", "dev", layout.link)
            run("ip", "link", "set", layout.link, "up")
            hub.wait()
        finally:
            hub.kill()


def _take_away(layout: Layout) -> None:
    """Remove what does not end with the processes; the link would, once the last of their connections is forgotten."""
    succeeds("ip", "link", "delete", layout.link)
    _remove_cgroups(layout.group)
    if layout.folder:
        _remove_files(Path(layout.folder))


def _make_cgroups(layout: Layout) -> None:
    for top in _tops():
        for name in (layout.group, *(f"{layout.group}/{node}" for node in NODES)):
            (top / name).mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (top / setting).exists() and (top / "cpuset.cpu_exclusive").exists():
                    (top / name / setting).write_text((top / name / ".." / setting).read_text())


def _tops() -> list[Path]:
    """The root of each hierarchy of cgroups that kubelet uses: one for each controller (v1), or one for all (v2)."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [top for top in CGROUPS.iterdir() if (top / "cgroup.procs").exists() and not top.is_symlink()]


def _remove_cgroups(group: str) -> None:
    """Remove the group below every root; the processes in it have been killed, and may take a moment to be gone."""
    for top in _tops():
        until(partial(_removes, top / group), partial(str.format, "{}: its processes do not end", top / group))


def _removes(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError:
            return False
    return True


def _remove_files(folder: Path) -> None:
    """All of a cluster's files go but the logs of its programs."""
    gone = [path for path in folder.glob("*/*") if path.name != "logs"]
    succeeds("rm", "--recursive", "--force", "--one-file-system", "--", *gone)  # of images that is half a million files


if __name__ == "__main__":
    main(sys.argv[1:])
