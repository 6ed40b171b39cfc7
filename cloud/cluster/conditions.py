"""Conditions as Kubernetes means them, and as kstatus (Flux, kubectl wait) reads them. Pure.

Ready: it has come to what was asked for. Reconciling: it is on its way. Stalled: it will not get there by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloud.cluster.entities import ENDED, Phase, Status

MOST_CHARACTERS = 1024


Found = Mapping[str, tuple[bool, str, str]]
"""Conditions by type: whether each holds, its reason and its message."""


def course(phase: Phase, reason: str, message: str) -> Found:
    """The three of which one holds in any phase."""
    return {
        "Ready": (phase is Phase.SUCCEEDED, reason, message),
        "Reconciling": (phase not in ENDED, reason, message),
        "Stalled": (phase in ENDED - {Phase.SUCCEEDED}, reason, message),
    }


def conditions(found: Found, generation: int, former: Status, now: str) -> Sequence[Mapping[str, Any]]:
    """They as a status lists them; what did not turn keeps its time."""
    since = {(one["type"], one["status"]): one["lastTransitionTime"] for one in former.get("conditions", ())}
    return [
        {
            "type": kind,
            "status": str(holds),
            "observedGeneration": generation,
            "lastTransitionTime": since.get((kind, str(holds)), now),
            "reason": reason,
            "message": message[:MOST_CHARACTERS],
        }
        for kind, (holds, reason, message) in found.items()
    ]


def patch(former: Status, wanted: Status) -> Mapping[str, Any]:
    """What must be written for `former` to become `wanted`: None for what goes. Empty: nothing.

    Nested mappings are written whole: they are merged there, and only ever have the same keys.
    """
    gone = {name: None for name in former if name not in wanted}
    changed = {name: value for name, value in wanted.items() if former.get(name) != value}
    return {**gone, **changed}
