"""The middle of a cluster, as the first process of namespaces of its own: control plane, name server, and the nodes.

It takes orders as lines of JSON on standard input and answers each with one on standard output; when there is no more
input it ends, and the kernel takes everything else away with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from simulators.kubernetes import disk, kubeconfig, node_settings, programs
from simulators.kubernetes.daemons import Daemons, Ended
from simulators.kubernetes.layout import API_PORT, Layout, Node
from simulators.kubernetes.plane import Address, ControlPlane
from simulators.kubernetes.steps import run, succeeds, until

NAMESPACES = ["unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child"]
_COREFILE = """\
.:53 {{
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
  }}
  cache 5
}}
"""


class Hub:
    """What one cluster consists of, while it is up. outside: descriptor of the machine's own network namespace."""

    def __init__(self, layout: Layout, outside: int) -> None:
        self._layout = layout
        self._outside = outside
        self._folder = Path(layout.folder) / "hub"
        self._daemons = Daemons(self._folder)
        self._nodes: dict[str, int] = {}

    def start(self) -> dict[str, Any]:
        """Bring everything up; gives the kubeconfig with all rights."""
        self._join_network()
        disk.mount(self._layout.disk, self._folder / "disk.img")
        self._plane = ControlPlane(self._folder, Address(self._layout.hub, API_PORT))
        for node in self._layout.nodes():
            self._prepare(node)
            self._start_node(node)
        self._plane.start()
        self._start_names()
        names = {node.name for node in self._layout.nodes()}
        until(lambda: self._all_ready(names), lambda: f"not all nodes are ready: {self._tails()}")
        for node in self._layout.nodes():
            self._start_policies(node)
        return {"kubeconfig": self._plane.kubeconfig.read_text()}

    def cut(self, node: str) -> dict[str, Any]:
        """Take the node's network away."""
        run("ip", "link", "set", self._layout.node(node).link, "down")
        return {}

    def heal(self, node: str) -> dict[str, Any]:
        """Give it back."""
        run("ip", "link", "set", self._layout.node(node).link, "up")
        return {}

    def load(self, archive: str) -> dict[str, Any]:
        """Bring the images of an archive, as `docker save` writes them, to all nodes."""
        imports = [_import(node, archive) for node in self._layout.nodes()]
        for done in imports:
            _, said = done.communicate()
            if done.returncode:
                raise RuntimeError(f"{archive} could not be imported: {said.decode(errors='replace')}")
        return {}

    def on(self, node: str, command: list[str]) -> dict[str, Any]:
        """Run a command on a node, as its root, and tell how it ended and what it said."""
        done = subprocess.run(
            [*self._enter(node), *command], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}

    def docker(self, group: int) -> dict[str, Any]:
        """Start a Docker of the cluster's own, for the group of users; gives its socket.

        Its builds reach what the machine reaches, if they ask for the host's network.
        """
        socket = self._folder / "docker.sock"
        places = {"data-root": self._layout.disk / "docker", "exec-root": "/run/docker", "pidfile": "/run/docker.pid"}
        named = [f"--{key}={value}" for key, value in places.items()]
        apart = [
            "nsenter",
            f"--net=/proc/self/fd/{self._outside}",
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount -t tmpfs tmpfs /run && exec "$@"',
            "sh",
        ]
        alone = ["--iptables=false", "--bridge=none", f"--host=unix://{socket}", f"--group={group}"]
        self._daemons.start("dockerd", [*apart, "dockerd", *alone, *named], inherited=[self._outside])
        asked = ["docker", "--host", f"unix://{socket}", "version"]
        self._daemons.until(lambda: succeeds(*asked), "dockerd")
        return {"socket": str(socket)}

    def check(self) -> dict[str, Any]:
        """Nothing, if all of it runs. Raises Ended."""
        self._daemons.check()
        self._plane.check()
        return {}

    def _join_network(self) -> None:
        until(lambda: "up0:" in Path("/proc/self/net/dev").read_text(), lambda: "the machine gave no link")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "nodes", "type", "bridge")
        run("ip", "address", "add", f"{self._layout.hub}/24", "dev", "nodes")
        run("ip", "link", "set", "nodes", "up")
        run("ip", "link", "set", "up0", "master", "nodes", "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for node in self._layout.nodes():
            run("ip", "route", "add", node.pods, "via", node.address)

    def _prepare(self, node: Node) -> None:
        node.folder.mkdir()
        issue = self._plane.authority.issue
        user = issue(f"system:node:{node.name}", group="system:nodes", addresses=[node.address, node.name])
        proxy = issue("system:kube-proxy")
        policies = issue("kube-router", group="system:masters")
        kubeconfig.write(node.kubeconfig, self._plane.url, self._plane.authority, user)
        kubeconfig.write(node.proxy_kubeconfig, self._plane.url, self._plane.authority, proxy)
        kubeconfig.write(node.policies_kubeconfig, self._plane.url, self._plane.authority, policies)

    def _start_node(self, node: Node) -> None:
        program = [sys.executable, "-m", "simulators.kubernetes.node", *node.layout.options(), node.name]
        process = self._daemons.start(node.name, [*NAMESPACES, *program])
        until(lambda: is_apart(process), lambda: f"{node.name} gets no namespaces: {self._daemons.tail(node.name)}")
        run("ip", "link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", str(process))
        run("ip", "link", "set", node.link, "master", "nodes", "up")
        self._nodes[node.name] = process

    def _start_policies(self, node: Node) -> None:
        """Once the node is known to the API: kube-router asks for it, and ends if it is not there."""
        program = [str(programs.folder() / "kube-router"), *node_settings.policies(node)]
        self._daemons.start(f"kube-router-{node.name}", [*self._enter(node.name), *program])

    def _enter(self, node: str) -> list[str]:
        """What goes before a command so that it runs on the node."""
        first = Path(f"/proc/{self._nodes[node]}/task/{self._nodes[node]}/children").read_text().split()[0]
        return ["nsenter", f"--target={first}", "--net", "--pid", "--mount", "--"]

    def _start_names(self) -> None:
        reader = self._plane.kubeconfig
        path = self._folder / "Corefile"
        path.write_text(_COREFILE.format(kubeconfig=reader))
        self._daemons.start("coredns", [programs.folder() / "coredns", "-conf", path])

    def _all_ready(self, names: set[str]) -> bool:
        self.check()
        return names <= self._plane.api.ready_nodes()

    def _tails(self) -> str:
        return "\n".join(self._daemons.tail(node.name) for node in self._layout.nodes())


def is_apart(process: int) -> bool:
    """Whether a process has left our network namespace for one of its own."""
    try:
        return os.stat(f"/proc/{process}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116 - no file
    except FileNotFoundError:
        return False


def _import(node: Node, archive: str) -> subprocess.Popen[bytes]:
    command = ["ctr", "--address", str(node.containerd), "--namespace", "k8s.io", "images", "import", archive]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _read(lines: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def serve(orders: dict[str, Callable[..., dict[str, Any]]]) -> NoReturn:
    """Carry out what standard input asks for. When it ends so does this process, in the midst of an order as well."""
    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=[lines], daemon=True).start()
    while True:
        order = json.loads(lines.get())
        answer: dict[str, Any]
        try:
            answer = {"done": orders[order["order"]](*order["arguments"])}
        except (RuntimeError, TimeoutError, Ended, OSError, KeyError, ValueError) as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    """The hub of the layout that the arguments tell."""
    folder, number, group, outside = arguments
    hub = Hub(Layout(folder, int(number), group), int(outside))
    serve({name: getattr(hub, name) for name in ("start", "cut", "heal", "load", "on", "docker", "check")})


if __name__ == "__main__":
    main(sys.argv[1:])
