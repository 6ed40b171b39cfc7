"""A control plane: etcd, the API server, the controllers, the scheduler. Without a kubelet no pod runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from simulators.kubernetes import kubeconfig, programs
from simulators.kubernetes.certificates import Authority, Identity, write_key
from simulators.kubernetes.daemons import Daemons
from simulators.kubernetes.layout import SERVICES

_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """As clients name it."""
        return f"https://{self.host}:{self.port}"


class ControlPlane:
    """Its programs and files, all in one folder. A node that is silent for 12 s counts as not ready."""

    def __init__(self, folder: Path, address: Address) -> None:
        self._folder = folder
        self._programs = programs.folder()
        self._address = address
        self._daemons = Daemons(folder)
        self.authority = Authority(folder / "certificates")
        self._admin = self.authority.issue("littoral-admin", group="system:masters")
        self.kubeconfig = self.kubeconfig_of("admin", self._admin)
        self.api = kubeconfig.Api(address.url, self.authority, self._admin)

    @property
    def url(self) -> str:
        """The API server's address."""
        return self._address.url

    def kubeconfig_of(self, name: str, user: Identity) -> Path:
        """Write the kubeconfig of a user of this cluster."""
        return kubeconfig.write(self._folder / f"{name}.kubeconfig", self.url, self.authority, user)

    def start(self) -> None:
        """Start all of it and return when pods could be made. Raises Ended if one of its programs does not stay up."""
        self._start_etcd()
        self._start_api_server()
        self._until("/readyz")
        self._start_controllers()
        self._until("/api/v1/namespaces/default/serviceaccounts/default")

    def check(self) -> None:
        """Raise Ended if one of its programs does not run any more."""
        self._daemons.check()

    def stop(self) -> None:
        """End its programs, the API server before etcd."""
        self._daemons.stop()

    def _until(self, path: str) -> None:
        self._daemons.until(lambda: self.api.answers(path), "kube-apiserver")

    def _start_etcd(self) -> None:
        socket = f"unix://{self._etcd_socket}"
        arguments = {
            "data-dir": self._folder / "etcd",
            "listen-client-urls": socket,
            "advertise-client-urls": "http://localhost:2379",  # for other members; there are none
            "listen-peer-urls": f"unix://{self._folder / 'peer.sock'}",
            "log-level": "warn",
        }
        self._start("etcd", arguments, "--unsafe-no-fsync")

    @property
    def _etcd_socket(self) -> Path:
        return self._folder / "etcd.sock"

    @property
    def _signing_key(self) -> Path:
        return self._folder / "certificates" / "service-accounts.key"

    def _start_api_server(self) -> None:
        write_key(self._signing_key, ec.generate_private_key(ec.SECP256R1()))
        serving = self.authority.issue(
            "kube-apiserver", addresses=[*_NAMES, self._address.host, "10.96.0.1", "127.0.0.1"]
        )
        kubelets = self.authority.issue("kube-apiserver-kubelet-client", group="system:masters")
        arguments = {
            "etcd-servers": f"unix://{self._etcd_socket}",
            "bind-address": self._address.host,
            "advertise-address": self._address.host,
            "secure-port": self._address.port,
            "cert-dir": self._folder / "certificates",
            "client-ca-file": self.authority.certificate,
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "kubelet-client-certificate": kubelets.certificate,
            "kubelet-client-key": kubelets.key,
            "kubelet-certificate-authority": self.authority.certificate,
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": self._signing_key,
            "service-account-signing-key-file": self._signing_key,
            "service-cluster-ip-range": SERVICES,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true",
            "endpoint-reconciler-type": "lease",
        }
        self._start("kube-apiserver", arguments)

    def _start_controllers(self) -> None:
        manager = self.authority.issue("system:kube-controller-manager")
        arguments = {
            "kubeconfig": self.kubeconfig_of("controller-manager", manager),
            "service-account-private-key-file": self._signing_key,
            "root-ca-file": self.authority.certificate,
            "node-monitor-period": "2s",
            "node-monitor-grace-period": "12s",
        }
        self._start("kube-controller-manager", {**arguments, **_ALONE}, "--use-service-account-credentials")
        scheduler = self.authority.issue("system:kube-scheduler")
        self._start("kube-scheduler", {"kubeconfig": self.kubeconfig_of("scheduler", scheduler), **_ALONE})

    def _start(self, name: str, arguments: dict[str, object], *flags: str) -> None:
        named = [f"--{key}={value}" for key, value in arguments.items()]
        self._daemons.start(name, [self._programs / name, *named, *flags])


_ALONE = {"leader-elect": "false", "secure-port": "0"}
"""There is one of each, and nobody scrapes it."""
