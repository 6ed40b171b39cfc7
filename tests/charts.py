"""The charts as tests render them, and the values that they are tried with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
HELM = ROOT / "helm"
Object = dict[str, Any]

CLOUD: dict[str, Mapping[str, Any]] = {
    "as it comes": {},
    "database and broker of one's own": {
        "postgresql": {"enabled": False},
        "mosquitto": {"enabled": False},
        "database": {"existingSecret": "db", "port": 6432},
        "broker": {"existingSecret": "mqtt", "port": 8883},
    },
    "database of one's own": {"postgresql": {"enabled": False}},
    "broker of one's own": {"mosquitto": {"enabled": False}},
    "nothing kept": {
        "postgresql": {"persistence": {"enabled": False}},
        "mosquitto": {"persistence": {"enabled": False}},
    },
    "claims of one's own": {
        "postgresql": {"persistence": {"existingClaim": "rows"}},
        "mosquitto": {"persistence": {"existingClaim": "retained"}},
    },
    "a storage class": {"postgresql": {"persistence": {"storageClass": "fast", "size": "100Gi"}}},
    "one of each": {
        "api": {"replicas": 1, "autoscaling": {"enabled": False}},
        "ingest": {"replicas": 1, "autoscaling": {"enabled": False}},
        "publisher": {"replicas": 1},
        "controller": {"replicas": 1},
    },
    "no objects in the cluster": {"cluster": {"enabled": False}},
    "no policies, no migration": {"networkPolicy": {"enabled": False}, "migration": {"enabled": False}},
    "narrow policies": {
        "networkPolicy": {
            "api": {"from": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}]},
            "ingest": {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
            "mosquitto": {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
            "metrics": {"from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
            "dns": {"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}]},
            "extraEgress": [{"ports": [{"port": 443}], "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}],
        }
    },
    "from outside": {
        "ingress": {
            "enabled": True,
            "className": "traefik",
            "host": "littoral.example",
            "tlsSecret": "certificate",
            "annotations": {"example.org/a": "b"},
        },
        "api": {"service": {"type": "NodePort", "nodePort": 30080}},
        "ingest": {"service": {"type": "LoadBalancer", "port": 443, "annotations": {"example.org/a": "b"}}},
        "mosquitto": {"service": {"type": "LoadBalancer", "nodePort": 31883, "annotations": {"example.org/a": "b"}}},
    },
    "everything said": {
        "registry": "registry.example/fleet/",
        "image": {"tag": "1.2.3"},
        "imagePullSecrets": [{"name": "login"}],
        "imagePullPolicy": "Never",
        "settings": {"result_days": 31, "sample_bytes": 10737418240, "log_level": "debug", "drift_p": 0.01},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "hostAliases": [{"ip": "10.0.0.7", "hostnames": ["db.example"]}],
        "commonLabels": {"team": "shore"},
        "api": {
            "tokenSecret": "littoral-api",
            "nodeSelector": {"role": "cloud"},
            "tolerations": [{"key": "cloud", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "podAnnotations": {"example.org/a": "b"},
        },
        "postgresql": {
            "settings": {"shared_buffers": "512MB", "max_connections": 200},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "cloud", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
        },
        "mosquitto": {"nodeSelector": {"disk": "ssd"}},
    },
}
"""Values of the chart `littoral` by what they are for."""

MONITORED: Mapping[str, Any] = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
}
"""What needs the Prometheus operator's kinds in the cluster."""

EDGE: dict[str, Mapping[str, Any]] = {
    "as it comes": {},
    "folders made by hand": {"data": {"hostPath": "/srv/littoral", "prepare": False}},
    "a camera": {"devices": ["/dev/video0", "/dev/ttyUSB0"], "supplementalGroups": [44, 20]},
    "the node's network": {"hostNetwork": True, "networkPolicy": {"enabled": False}},
    "a priority class of one's own": {"priorityClass": {"create": False, "name": "system-node-critical"}},
    "no priority class": {"priorityClass": {"create": False}},
    "by hand": {"updateStrategy": {"type": "OnDelete"}},
    "everything said": {
        "registry": "registry.example/fleet/",
        "image": {"tag": "1.2.3"},
        "imagePullSecrets": [{"name": "login"}],
        "api": "http://littoral-api.littoral.svc:8080",
        "labels": {"site": "harbour", "line": "2"},
        "settings": {"outbox_bytes": 1073741824, "slots": "default=2,doors=1", "trial_s": 0.5},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "hostAliases": [{"ip": "10.0.0.7", "hostnames": ["broker.local"]}],
        "commonLabels": {"team": "shore"},
        "extraVolumes": [{"name": "pictures", "hostPath": {"path": "/srv/pictures"}}],
        "extraVolumeMounts": [{"name": "pictures", "mountPath": "/pictures"}],
        "readiness": "model",
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "podAnnotations": {"example.org/a": "b"},
        "updateStrategy": {"maxUnavailable": "10%"},
        "networkPolicy": {
            "ports": [443],
            "dns": {"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}]},
            "extraEgress": [{"ports": [{"port": 554}]}],
            "metrics": {"from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
        },
    },
}
"""Values of the chart `littoral-edge` by what they are for."""


@cache
def tools() -> Path:
    """The folder of kubectl and helm; a test that needs them is skipped where `make setup` could not fetch them."""
    command = [str(ROOT / "scripts" / "kubernetes-tools"), "--cached"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return Path(done.stdout.strip())


def helm(*arguments: str, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """What helm says with these values."""
    command = [str(tools() / "helm"), *arguments, "--values", "-"]
    return subprocess.run(command, input=yaml.safe_dump(dict(values)), capture_output=True, text=True, check=False)


def render(chart: str, values: Mapping[str, Any], release: str = "littoral") -> list[Object]:
    """The chart's objects; rendered once in a process, so leave them as they are."""
    return _rendered(chart, json.dumps(values), release)


@cache
def _rendered(chart: str, values: str, release: str) -> list[Object]:
    done = helm("template", release, str(HELM / chart), "--namespace", "shore", values=json.loads(values))
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.load_all(done.stdout, yaml.CSafeLoader) if found]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Each pod, or what pods are made of, as kind/name and an object with metadata and spec."""
    for found in objects:
        name = f"{found['kind']}/{found['metadata']['name']}"
        if found["kind"] == "Pod":
            yield name, found
        elif "template" in found.get("spec", {}):
            yield name, found["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, those that come before the others included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The only object of this kind and name."""
    (found,) = (one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found
