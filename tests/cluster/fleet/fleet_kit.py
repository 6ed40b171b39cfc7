"""Littoral as an operator installs it: both charts on a cluster, told by kubectl and helm, asked through its API."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from simulators.kubernetes import Cluster
from tests.charts import HELM, tools
from tests.cluster.fleet.images_kit import NOW, ROOT
from tests.waiting import until

CLOUD = "littoral"
EDGE = "littoral-edge"
AGENTS = "app.kubernetes.io/name=littoral-edge"
"""The label of the agents' pods."""
PORT = 30080
GIVEN = bool(os.environ.get("LITTORAL_TEST_KUBECONFIG"))
PULL = "IfNotPresent" if GIVEN else "Never"
PASSWORD = "onlyoftests"
TOKEN = "littoral-api"
"""The Secret with what whoever changes something over the API must show."""
MODEL = "digits"
KEPT = {"postgresql": "999", "mosquitto": "1883"}
SIZE = "1Gi"
ENDED = ("Succeeded", "Failed", "Aborted")


class Refused(Exception):
    """A command was refused; the message is what it said."""


class Fleet:
    """Both charts, and who asks and tells them."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        # Database and broker are on the first node; it is the second one that is cut off.
        self.safe, self.fragile = cluster.nodes[:2]
        self._folder = folder

    def kubectl(self, *arguments: str, told: str | None = None) -> str:
        """What kubectl answers. Raises Refused."""
        return self._run([str(tools() / "kubectl"), *arguments], told)

    def helm(self, *arguments: str) -> str:
        """What helm answers. Raises Refused."""
        return self._run([str(tools() / "helm"), *arguments], None)

    def apply(self, *objects: Mapping[str, Any], namespace: str = CLOUD) -> None:
        """As `kubectl apply` does."""
        self.kubectl(
            "-n", namespace, "apply", "-f", "-", told=json.dumps({"kind": "List", "apiVersion": "v1", "items": objects})
        )

    def named(self, kind: str, name: str, namespace: str = CLOUD) -> dict[str, Any]:
        """An object as it is now."""
        found: dict[str, Any] = json.loads(self.kubectl("-n", namespace, "get", kind, name, "-o", "json"))
        return found

    def pods(self, component: str, namespace: str = CLOUD) -> list[str]:
        """The names of the pods of a part that are not on their way out."""
        found = self.listed(component, namespace)
        return [it["metadata"]["name"] for it in found if "deletionTimestamp" not in it["metadata"]]

    def listed(self, label: str = "", namespace: str = CLOUD) -> list[dict[str, Any]]:
        """All pods with a label, also those on their way out; without one all of the namespace."""
        found: dict[str, Any] = json.loads(self.kubectl("-n", namespace, "get", "pods", "-l", label, "-o", "json"))
        return list(found["items"])

    def get(self, path: str) -> Any:
        """What the cloud's API answers to a GET below /api/v1, asked as often as it takes."""
        answers: list[Any] = []

        def answered() -> bool:
            try:
                answers.append(self.ask(path))
            except OSError:
                return False
            return True

        until(answered, 0.5)
        return answers[0]

    def ask(self, path: str) -> Any:
        """The same once. Raises OSError."""
        with urllib.request.urlopen(f"{self.api}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)

    @property
    def api(self) -> str:
        """The address of the cloud's API for who is outside of the cluster."""
        return f"http://{self.address}:{PORT}"

    @property
    def address(self) -> str:
        """That of the first node."""
        found = self.named("node", self.safe)["status"]["addresses"]
        return next(str(it["address"]) for it in found if it["type"] == "InternalIP")

    def versions(self) -> dict[str, int]:
        """Which version each device runs, by what it reported."""
        return {device["id"]: device["version"] for device in self.get("devices")}

    def install(self) -> None:
        """Install both charts as docs/kubernetes.md says."""
        self._make_secrets()
        if not GIVEN:
            self._make_volumes()
        self.helm(
            "-n",
            CLOUD,
            "install",
            "littoral",
            str(HELM / "littoral"),
            "-f",
            self._values("cloud", _cloud_values(self.safe, self._nodes())),
        )
        for node in self.cluster.nodes:
            self.kubectl("label", "node", node, "littoral.dev/edge=true", "littoral.dev/site=harbour")
        values = self._values("edge", {"imagePullPolicy": PULL, "networkPolicy": {"dns": _names(self._nodes())}})
        self.helm("-n", EDGE, "install", "littoral-edge", str(HELM / "littoral-edge"), "-f", values)
        self.rolled_out()

    def rolled_out(self) -> None:
        """Return when all pods are those of the newest release, and ready."""
        kinds = ("statefulset/littoral-postgresql", "statefulset/littoral-mosquitto",
                 *(f"deployment/littoral-{role}" for role in ("api", "ingest", "publisher", "controller")))  # fmt: skip
        for one in kinds:
            self.kubectl("-n", CLOUD, "rollout", "status", one, "--timeout=240s")
        self.kubectl("-n", EDGE, "rollout", "status", "daemonset/littoral-edge", "--timeout=240s")

    def train(self, run: str, epochs: int) -> int:
        """Train on this machine and register over the API; gives the version."""
        command = [".venv/bin/littoral", "train-worker", "--run", run, "--workers", "1", "--epochs", str(epochs)]
        said = self._run([*command, "--model", MODEL, "--data", "digits", "--api", self.api], None)
        return int(json.loads(said.splitlines()[-1])["version"])

    def ensure_model(self) -> None:
        """Return when every device runs a model: one is trained and rolled out, unless a test before did."""
        if not self.get("models"):
            self.roll_out("first", self.train("first", 1))
            self.succeeded("first")

    def succeeded(self, name: str) -> None:
        """Return when the ModelRollout has succeeded. Raises Refused if it ends otherwise."""
        until(lambda: self.phase(name) in ENDED, 0.5)
        if self.phase(name) != "Succeeded":
            raise Refused(json.dumps(self.rollout(name)))

    def roll_out(self, name: str, version: int, **spec: object) -> None:
        """Apply a ModelRollout for the nodes of the harbour."""
        spec = {"model": MODEL, "version": version, "selector": {"site": "harbour"}, **spec}
        self.apply(
            {"apiVersion": "littoral.dev/v1alpha1", "kind": "ModelRollout", "metadata": {"name": name}, "spec": spec}
        )

    def rollout(self, name: str) -> dict[str, Any]:
        """The status of a ModelRollout; empty while there is none."""
        status: dict[str, Any] = self.named("modelrollout", name).get("status", {})
        return status

    def phase(self, name: str) -> str:
        """The phase in it."""
        return str(self.rollout(name).get("phase", ""))

    def _nodes(self) -> str:
        """The network of the nodes, and of who asks from outside."""
        return str(ip_network(f"{self.address}/24", strict=False))

    def _make_secrets(self) -> None:
        keys = self._folder / "fleet"
        for command in (["init"], ["delegate", MODEL]):
            self._run([".venv/bin/littoral", "keys", *command, "--dir", str(keys)], None)
        secret = self._run([".venv/bin/littoral", "keys", "secret", "--dir", str(keys)], None)
        broker = f"mqtt://device:{PASSWORD}@littoral-mosquitto.{CLOUD}.svc:1883"
        self.apply(_namespace(CLOUD, "restricted"), _namespace(EDGE, "privileged", {"littoral.dev/edge": "true"}))
        self.kubectl("-n", CLOUD, "apply", "-f", "-", told=secret)
        self.apply(
            _secret("littoral-database", password=PASSWORD),
            _secret(TOKEN, token=PASSWORD),
            _secret("littoral-broker", **{"cloud-password": PASSWORD, "device-password": PASSWORD}),
        )
        trust = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "littoral-trust"}}
        self.apply({**trust, "data": {"trust.json": (keys / "trust.json").read_text()}}, namespace=EDGE)
        self.apply(_secret("littoral-edge-broker", url=broker), _secret(TOKEN, token=PASSWORD), namespace=EDGE)

    def _make_volumes(self) -> None:
        """Folders of the first node, for the claims of database and broker; the users' numbers are the images'."""
        for name, user in KEPT.items():
            folder = f"/var/lib/kept-{name}"
            self.cluster.on(self.safe, "install", "-d", "-o", user, "-g", user, folder)
            claim = {"namespace": CLOUD, "name": f"data-littoral-{name}-0"}
            spec = {"capacity": {"storage": SIZE}, "accessModes": ["ReadWriteOnce"], "claimRef": claim}
            spec["hostPath"] = {"path": folder}
            volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"kept-{name}"}}
            self.apply({**volume, "spec": spec})

    def _values(self, name: str, values: Mapping[str, Any]) -> str:
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(values))
        return str(path)

    def _run(self, command: Sequence[str], told: str | None) -> str:
        environment = {"KUBECONFIG": str(self.cluster.kubeconfig), "PATH": "/usr/bin:/bin", "HOME": str(self._folder),
                       "LITTORAL_API_TOKEN": PASSWORD}  # fmt: skip
        done = subprocess.run(
            command, check=False, input=told, capture_output=True, text=True, cwd=ROOT, env=environment
        )
        if done.returncode:
            raise Refused(f"{' '.join(command)} failed: {done.stderr[-2000:]}{done.stdout[-500:]}")
        return done.stdout


def _namespace(name: str, level: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": level, **(labels or {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _secret(name: str, **content: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}


def _bundled(name: str, node: str) -> dict[str, Any]:
    pinned = {"kubernetes.io/hostname": node}
    kept = {"enabled": not GIVEN, "size": SIZE}
    return {"image": f"littoral-{name}:{NOW}", "persistence": kept, "nodeSelector": pinned}


def _names(nodes: str) -> dict[str, Any]:
    """Here the name server is none of the pods; elsewhere it is."""
    return {"to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": nodes}}]}


def _cloud_values(node: str, nodes: str) -> dict[str, Any]:
    policies = {
        "dns": _names(nodes),
        "api": {"from": [{"ipBlock": {"cidr": "0.0.0.0/0" if GIVEN else nodes}}]},
        "ingest": {"from": [{"namespaceSelector": {"matchLabels": {"littoral.dev/edge": "true"}}}]},
    }
    return {
        "imagePullPolicy": PULL,
        "networkPolicy": policies,
        "mosquitto": _bundled("mosquitto", node),
        "postgresql": _bundled("postgresql", node),
        "api": {
            "tokenSecret": TOKEN,
            "autoscaling": {"enabled": False},
            "service": {"type": "NodePort", "nodePort": PORT},
        },
        "ingest": {"autoscaling": {"enabled": False}},
    }
