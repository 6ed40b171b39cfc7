"""Sensors as pods: one on each node, which feeds the node's agent and posts the true labels."""

from __future__ import annotations

import time
from typing import Any

from tests.cluster.fleet.fleet_kit import EDGE, PULL, TOKEN, Fleet
from tests.cluster.fleet.images_kit import NOW
from tests.waiting import until

_START = "from simulators.cli import main; main()"
_DATA = "/var/lib/littoral-edge"
_LABEL = "littoral.test/part=sensors"
RATE = 40


def start(fleet: Fleet) -> None:
    """Begin to feed every agent; return when the first results are stored."""
    before = _stored(fleet)
    fleet.apply(_daemonset(), namespace=EDGE)
    until(lambda: all(_stored(fleet).get(node, 0) > before.get(node, 0) for node in fleet.cluster.nodes), 0.5)


def stop(fleet: Fleet) -> None:
    """End the sensors, which settle first what they handed over."""
    fleet.kubectl("-n", EDGE, "delete", "daemonset", "sensors", "--ignore-not-found")
    until(lambda: not fleet.listed(_LABEL, EDGE), 0.5)


def books(fleet: Fleet) -> set[tuple[int, int]]:
    """End the sensors, wait until the devices hold nothing back; give what is lost and what is doubled.

    By device as `littoral audit results` has it, and by the numbers of the frames.
    """
    stop(fleet)
    ended_ms = time.time() * 1000
    until(lambda: all(_drained(device["telemetry"], ended_ms) for device in fleet.get("devices")), 0.5)
    summary = fleet.get("summary")
    audited = {(one["lost"], one["doubled"]) for one in fleet.get("audit/results")}
    return audited | {(summary["lost"], summary["duplicated"])}


def _drained(told: dict[str, Any] | None, since_ms: float) -> bool:
    return told is not None and told["measured_ms"] > since_ms and told["outbox_rows"] == 0


def _stored(fleet: Fleet) -> dict[str, int]:
    return {one["device"]: one["stored"] for one in fleet.get("audit/results")}


def _daemonset() -> dict[str, Any]:
    labels = dict([_LABEL.split("=")])
    metadata = {"name": "sensors", "labels": labels}
    template = {"metadata": {"labels": labels}, "spec": _pod()}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}


def _pod() -> dict[str, Any]:
    node = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    shown = {"secretKeyRef": {"name": TOKEN, "key": "token"}}
    token = {"name": "LITTORAL_API_TOKEN", "valueFrom": shown}
    arguments = ["sensors", "--agent", f"$(NODE)={_DATA}/frames.sock", "--rate", str(RATE), "--batch", "10"]
    container = {
        "name": "sensor",
        "image": f"littoral-training:{NOW}",
        "imagePullPolicy": PULL,
        "command": ["python3", "-c", _START],
        "args": [*arguments, "--api", "http://littoral-api.littoral.svc:8080"],
        "env": [node, token],
        "volumeMounts": [{"name": "agent", "mountPath": _DATA}],
    }
    volume = {"name": "agent", "hostPath": {"path": _DATA}}
    return {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 60}
