"""What a cluster's node is to the fleet: the device of the same name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloud.cluster.entities import GROUP
from cloud.fleet.entities import Node, NodeState
from cloud.fleet.rules import MAX_LABEL_CHARACTERS
from protos.topics import NAME

OURS = f"{GROUP}/"


def node(manifest: Mapping[str, Any], *, gone: bool = False) -> Node | None:
    """A node as the API server shows it; None: its name is none that a device can have."""
    name = manifest["metadata"]["name"]
    if not NAME.fullmatch(name):
        return None
    ready = NodeState.READY if _is_ready(manifest) else NodeState.NOT_READY
    return Node(
        device=name,
        labels=device_labels(manifest["metadata"].get("labels") or {}),
        state=NodeState.GONE if gone else ready,
        cordoned=bool((manifest.get("spec") or {}).get("unschedulable")),
    )


def device_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """A node's labels as rollouts select by them: each under its own name, littoral.dev/site also as site."""
    fitting = {key: value for key, value in labels.items() if len(key) <= MAX_LABEL_CHARACTERS}
    short = {key.removeprefix(OURS): value for key, value in fitting.items() if key.startswith(OURS)}
    return dict(sorted((fitting | short).items()))


def _is_ready(manifest: Mapping[str, Any]) -> bool:
    told = (manifest.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in told)
