"""Who has which address and which folder in a cluster: every part of it computes this from the same few numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

NODES = ("alpha", "beta")
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
API_PORT = 6443


@dataclass(frozen=True, slots=True)
class Layout:
    """One cluster. folder: all its files; number: of its network, 0 to 255; group: its cgroups' name below the root."""

    folder: str
    number: int
    group: str

    def options(self) -> list[str]:
        """As arguments of a program, for `Layout(folder, int(number), group)`."""
        return [str(value) for value in asdict(self).values()]

    @property
    def disk(self) -> Path:
        """The folder of what is large."""
        return Path(self.folder) / "disk"

    @property
    def network(self) -> str:
        """The nodes' network, of the addresses that are set aside for tests of networks (RFC 2544)."""
        return f"198.18.{self.number}.0/24"

    @property
    def hub(self) -> str:
        """The API server's address, and the name server's."""
        return f"198.18.{self.number}.1"

    @property
    def machine(self) -> str:
        """The address of the machine that the cluster runs on."""
        return f"198.18.{self.number}.254"

    @property
    def link(self) -> str:
        """The one network device that the machine itself sees."""
        return f"littoral{self.number}"

    def node(self, name: str) -> Node:
        """One node. Raises ValueError if there is none of this name."""
        return Node(self, name, NODES.index(name))

    def nodes(self) -> list[Node]:
        """All of them."""
        return [self.node(name) for name in NODES]


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a cluster."""

    layout: Layout
    name: str
    index: int

    @property
    def folder(self) -> Path:
        """Its files."""
        return Path(self.layout.folder) / self.name

    def var(self, name: str) -> Path:
        """What is /var/`name` on the node."""
        return self.layout.disk / f"{self.name}-{name}"

    @property
    def address(self) -> str:
        """Its address in the nodes' network."""
        return f"198.18.{self.layout.number}.{11 + self.index}"

    @property
    def pods(self) -> str:
        """The network of its pods."""
        return f"10.244.{1 + self.index}.0/24"

    @property
    def link(self) -> str:
        """The network device at the hub that it hangs on."""
        return f"to-{self.name}"

    @property
    def containerd(self) -> Path:
        """The socket of its containerd."""
        return self.folder / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        """With which its kubelet reaches the API."""
        return self.folder / "kubelet.kubeconfig"

    @property
    def proxy_kubeconfig(self) -> Path:
        """With which its kube-proxy does."""
        return self.folder / "kube-proxy.kubeconfig"

    @property
    def policies_kubeconfig(self) -> Path:
        """With which kube-router does, who enforces NetworkPolicies."""
        return self.folder / "kube-router.kubeconfig"
