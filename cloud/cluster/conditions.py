"""Conditions as Kubernetes means them, and as kstatus (Flux, kubectl wait) reads them. Pure.

Ready: it has come to what was asked for. Reconciling: it is on its way. Stalled: it will not get there by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloud.cluster.entities import Status

MOST_CHARACTERS = 1024


def conditions(
    found: Mapping[str, tuple[bool, str, str]], generation: int, former: Status, now: str
) -> Sequence[Mapping[str, Any]]:
    """Conditions by type from whether each holds, its reason and message; what did not turn keeps its time."""
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
    """What must be written for `former` to become `wanted`: None for what goes. Empty: nothing."""
    gone = {name: None for name in former if name not in wanted}
    changed = {name: value for name, value in wanted.items() if not _same(former.get(name), value)}
    return {**gone, **changed}


def _same(former: object, wanted: object) -> bool:
    """Nested mappings are compared by what is wanted: they are merged, and only ever have the same keys."""
    if isinstance(former, Mapping) and isinstance(wanted, Mapping):
        return dict(former) == dict(wanted)
    return former == wanted
