"""Objects as the API server hands them over: defaults filled in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cloud.cluster.entities import Object
from cloud.rollouts.entities import Gates, MemberState, Overview, Rollout, State

GATES = {"maxFailedShare": 0, "minSucceededShare": 1, "soakSeconds": 0, "leaseSeconds": 60, "timeoutSeconds": 300}
UID = "7a0f2f0e-6a3c-4f5e-9a0e-2f4c7d1b8e11"


def spec(**given: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"model": "digits", "version": 1, "slot": "default", "selector": {}, "waves": ["1", "rest"]}
    made |= {"gates": GATES, "paused": False, "attempt": 1, "deletionPolicy": "Abort"}
    return made | given


def thing(generation: int = 1, status: dict[str, Any] | None = None, **given: Any) -> Object:
    return Object("fleet", "digits", UID, generation, spec(**given), status or {})


def overview(
    rollout_id: str, version: int = 1, state: State = State.RUNNING, gates: Gates | None = None, **tally: int
) -> Overview:
    """One with a single wave."""
    rollout = Rollout(
        id=rollout_id,
        model="digits",
        version=version,
        manifest=b"",
        selector={},
        gates=gates or Gates(),
        waves=1,
        members={},
        created_ms=0,
        state=state,
        wave=0,
    )
    return Overview(rollout, (Counter({MemberState(name): count for name, count in tally.items()}),))


def run(**given: Any) -> Object:
    """A TrainingRun."""
    made = {"model": "digits", "data": "digits", "seed": 1, "workers": 2, "backoffLimit": 6} | given
    return Object("fleet", "train", UID, 1, made, {})
