"""How a node's programs are set up: containerd, the pods' network, kubelet, kube-proxy."""

from __future__ import annotations

import json
from pathlib import Path

from simulators.kubernetes.images import PAUSE
from simulators.kubernetes.layout import PODS, SERVICES, Node

PLUGINS = Path("/usr/lib/cni")
_NEVER = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree")

_CONTAINERD = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
"""


def write_containerd(node: Node, snapshotter: str) -> Path:
    """Write its configuration, and the pods' network's; return the former's path."""
    networks = node.folder / "networks"
    networks.mkdir()
    (networks / "pods.conflist").write_text(json.dumps(_network(node)))
    path = node.folder / "containerd.toml"
    path.write_text(
        _CONTAINERD.format(
            socket=node.containerd, pause=PAUSE, snapshotter=snapshotter, plugins=PLUGINS, networks=networks
        )
    )
    return path


def _network(node: Node) -> dict[str, object]:
    # ptp rather than bridge: all between two pods is routed, so that Services need no filter within a bridge.
    addresses = {"type": "host-local", "ranges": [[{"subnet": node.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    pairs = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [pairs, ports]}


def write_kubelet(node: Node) -> list[str]:
    """Write kubelet's configuration; return its arguments."""
    resolver = node.folder / "resolv.conf"
    resolver.write_text(f"nameserver {node.layout.hub}\n")
    path = node.folder / "kubelet.json"
    path.write_text(json.dumps(_kubelet(node, resolver), indent=2))
    files = [f"--config={path}", f"--kubeconfig={node.kubeconfig}", "--root-dir=/var/lib/kubelet"]
    return [*files, "--cert-dir=/var/lib/kubelet/pki", f"--hostname-override={node.name}", f"--node-ip={node.address}"]


def _kubelet(node: Node, resolver: Path) -> dict[str, object]:
    certificates = Path(node.layout.folder) / "hub" / "certificates"
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        # Who holds a certificate of this cluster's authority is the API server, and may do all.
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(certificates / "ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": str(certificates / f"system-node-{node.name}.crt"),
        "tlsPrivateKeyFile": str(certificates / f"system-node-{node.name}.key"),
        "containerRuntimeEndpoint": f"unix://{node.containerd}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.layout.group}/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "evictionHard": dict.fromkeys(_NEVER[1:], "0%") | {_NEVER[0]: "50Mi"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "3s",
        "nodeLeaseDurationSeconds": 12,
        "shutdownGracePeriod": "0s",
        "clusterDNS": [node.layout.hub],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver),
        "volumePluginDir": "/var/lib/kubelet/plugins-volume",
    }


def proxy(node: Node) -> list[str]:
    """kube-proxy's arguments. It leaves alone what is one for the whole machine: the table of connections."""
    untouched = ("max-per-core", "min", "tcp-timeout-established", "tcp-timeout-close-wait")
    limits = [f"--conntrack-{name}={'0s' if 'timeout' in name else 0}" for name in untouched]
    kubeconfig = f"--kubeconfig={node.proxy_kubeconfig}"
    return [kubeconfig, f"--hostname-override={node.name}", "--proxy-mode=iptables", f"--cluster-cidr={PODS}",
            "--oom-score-adj=0", *limits]  # fmt: skip


def policies(node: Node) -> list[str]:
    """kube-router's arguments: it enforces NetworkPolicies, as in K3s, and does nothing else of what it could."""
    off = ("run-router", "run-service-proxy", "run-loadbalancer", "enable-cni")
    return [f"--kubeconfig={node.policies_kubeconfig}", f"--hostname-override={node.name}", "--run-firewall=true",
            f"--service-cluster-ip-range={SERVICES}", "--health-port=0", *(f"--{it}=false" for it in off)]  # fmt: skip
