"""One node, as the first process of namespaces of its own: when it ends, all that ran on the node is gone with it.

Network, mounts and processes are the node's own, and so are /run, /var/lib and /var/log: what a pod keeps on its node
is in the node's folder.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from simulators.kubernetes import images, node_settings, programs
from simulators.kubernetes.daemons import Daemons
from simulators.kubernetes.layout import NODES, Layout, Node
from simulators.kubernetes.steps import run, succeeds, until

KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet would set in the kernel, for the whole machine: it finds it in files laid over the real ones."""


def serve(node: Node) -> None:
    """Bring the node up and look after it until its end."""
    _lay_folders(node)
    _lay_kernel_settings(node)
    _join_network(node)
    daemons = Daemons(node.folder)
    _start_containerd(node, daemons)
    made = programs.folder()
    daemons.start("kubelet", [made / "kubelet", *node_settings.write_kubelet(node)])
    daemons.start("kube-proxy", [made / "kube-proxy", *node_settings.proxy(node)])
    while True:
        _reap(daemons)
        time.sleep(0.5)


def _lay_folders(node: Node) -> None:
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for name in ("lib", "log"):
        own = node.var(name)
        own.mkdir()
        run("mount", "--bind", own, f"/var/{name}")


def _lay_kernel_settings(node: Node) -> None:
    settings = node.folder / "kernel"
    for name, value in KERNEL.items():
        own = settings / name
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(value)
        run("mount", "--bind", own, f"/proc/sys/{name}")


def _join_network(node: Node) -> None:
    until(lambda: "eth0:" in Path("/proc/self/net/dev").read_text(), lambda: "the hub gave no link")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", node.layout.hub)
    for other in node.layout.nodes():
        if other != node:
            run("ip", "route", "add", other.pods, "via", other.address)


def _start_containerd(node: Node, daemons: Daemons) -> None:
    daemons.start("containerd", ["containerd", "--config", node_settings.write_containerd(node, _snapshotter())])
    client = ["ctr", "--address", str(node.containerd)]
    daemons.until(lambda: succeeds(*client, "version"), "containerd")
    archive = node.folder / "pause.tar"
    images.write_archive(archive, images.PAUSE, programs.folder() / "pause")
    run(*client, "--namespace", "k8s.io", "images", "import", archive)


def _snapshotter() -> str:
    """Layers over each other where the file system takes that: inside a container it may not, there they are copied."""
    tried = Path("/var/lib/tried")
    for name in ("lower", "upper", "work", "merged"):
        (tried / name).mkdir(parents=True)
    options = f"lowerdir={tried}/lower,upperdir={tried}/upper,workdir={tried}/work"
    if not succeeds("mount", "-t", "overlay", "overlay", "-o", options, tried / "merged"):
        return "native"
    run("umount", tried / "merged")
    return "overlayfs"


def _reap(daemons: Daemons) -> None:
    """As the first process this one inherits what others leave behind. Raises Ended if one of our own has ended."""
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        daemons.check()
        os.waitpid(ended.si_pid, 0)


def main(arguments: Sequence[str]) -> None:
    """The node named by the last argument, of the layout that the others tell."""
    folder, number, group, name = arguments
    if name not in NODES:
        sys.exit(f"there is no node {name}")
    serve(Layout(folder, int(number), group).node(name))


if __name__ == "__main__":
    main(sys.argv[1:])
