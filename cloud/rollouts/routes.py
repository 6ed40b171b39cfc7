"""Rollouts over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cloud.registry.entities import UnknownModel
from cloud.rollouts import waves
from cloud.rollouts.entities import (
    BadWaves,
    Conflict,
    Gates,
    IllegalEvent,
    Member,
    MemberState,
    NoTargets,
    Overview,
    Request,
    Rollout,
    Tally,
    UnknownRollout,
)
from cloud.rollouts.service import Rollouts
from cloud.rollouts.waves import MAX_WAVES
from protos.topics import DEFAULT_SLOT, NAME

MAX_SELECTOR = 16
YEAR_S = 366 * 24 * 3600

LabelText = Annotated[str, StringConstraints(min_length=1, max_length=253)]
WaveText = Annotated[str, StringConstraints(min_length=1, max_length=16)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=YEAR_S, allow_inf_nan=False)]


class GatesBody(BaseModel):
    """What a wave must show before the next one begins. Shares 0 to 1 of its reachable members, times in seconds."""

    model_config = ConfigDict(extra="forbid")

    max_failed_share: Share = 0.0
    min_succeeded_share: Share = 1.0
    soak_s: Seconds = 0
    lease_s: Annotated[float, Field(ge=1, le=YEAR_S, allow_inf_nan=False)] = 60
    timeout_s: Annotated[float, Field(ge=1, le=YEAR_S, allow_inf_nan=False)] = 300


class RolloutBody(BaseModel):
    """What is to be rolled out, to whom, how."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(examples=["digits"])
    version: Annotated[int, Field(ge=1, le=2**63 - 1, strict=True)] = Field(examples=[2])
    selector: Annotated[dict[LabelText, Annotated[str, StringConstraints(max_length=253)]], Field()] = Field(
        default_factory=dict, max_length=MAX_SELECTOR, examples=[{"site": "a"}]
    )
    slot: Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")] = Field(
        default=DEFAULT_SLOT, description="Which of the models that a device runs at once.", examples=["doors"]
    )
    waves: list[WaveText] = Field(default_factory=lambda: ["1", "rest"], max_length=MAX_WAVES)
    gates: GatesBody = Field(default_factory=GatesBody)


class WaveView(BaseModel):
    """Members of a wave by what has become of them. pending: still to answer. held: not given it, their nodes being
    cordoned.
    """

    size: int
    succeeded: int
    failed: int
    unreachable: int
    incompatible: int
    rolled_back: int
    held: int
    pending: int
    state: str


class MemberView(BaseModel):
    """One device of a rollout."""

    device: str
    wave: int
    state: str
    generation: int
    reason: str


class OverviewView(BaseModel):
    """A rollout with its waves."""

    id: str
    model: str
    version: int
    slot: str
    state: str
    reason: str
    selector: dict[str, str]
    gates: GatesBody
    created_ms: int
    waves: list[WaveView]


class RolloutView(OverviewView):
    """A rollout with its waves and members."""

    members: list[MemberView]


def router(rollouts: Rollouts, now_ms: Callable[[], int] = lambda: int(time.time() * 1000)) -> APIRouter:
    """The routes of this room."""
    routes = APIRouter(prefix="/api/v1/rollouts", tags=["rollouts"])

    @routes.post("", status_code=201, response_model=RolloutView)
    def create(body: RolloutBody) -> JSONResponse:
        """Begin a rollout to all devices that match the selector now, and to those that join while it runs."""
        try:
            return JSONResponse(rollout_json(rollouts.create(_request(body), now_ms())), 201)
        except UnknownModel as error:
            raise HTTPException(404, str(error.args[0])) from error
        except NoTargets as error:
            raise HTTPException(409, str(error)) from error
        except BadWaves as error:
            raise HTTPException(422, str(error)) from error

    @routes.get("", response_model=list[OverviewView])
    def list_(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
        """Rollouts, the newest first, without their members."""
        return [overview_json(overview) for overview in rollouts.list(limit)]

    @routes.get("/{rollout}", response_model=RolloutView)
    def get(rollout: str) -> JSONResponse:
        """One rollout with its members."""
        return JSONResponse(_asked(lambda: rollouts.get(rollout)))

    @routes.post("/{rollout}/abort", response_model=RolloutView)
    def abort(rollout: str) -> JSONResponse:
        """End it and give every device back what it had before."""
        return JSONResponse(_asked(lambda: rollouts.abort(rollout, now_ms())))

    @routes.post("/{rollout}/pause", response_model=RolloutView)
    def pause(rollout: str) -> JSONResponse:
        """Begin no further wave."""
        return JSONResponse(_asked(lambda: rollouts.pause(rollout, now_ms())))

    @routes.post("/{rollout}/resume", response_model=RolloutView)
    def resume(rollout: str) -> JSONResponse:
        """Go on with a paused one."""
        return JSONResponse(_asked(lambda: rollouts.resume(rollout, now_ms())))

    return routes


def overview_json(overview: Overview) -> dict[str, Any]:
    """As in OverviewView."""
    rollout, gates = overview.rollout, overview.rollout.gates
    return {
        "id": rollout.id,
        "model": rollout.model,
        "version": rollout.version,
        "slot": rollout.slot,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "selector": dict(rollout.selector),
        "gates": {
            "max_failed_share": gates.max_failed_share,
            "min_succeeded_share": gates.min_succeeded_share,
            "soak_s": gates.soak_s,
            "lease_s": gates.lease_s,
            "timeout_s": gates.timeout_s,
        },
        "created_ms": rollout.created_ms,
        "waves": [_wave_json(rollout, index, tally) for index, tally in enumerate(overview.tallies)],
    }


def rollout_json(rollout: Rollout) -> dict[str, Any]:
    """As in RolloutView."""
    tallies = tuple(wave.tally for wave in waves.shown(rollout))
    members = sorted(rollout.members.values(), key=lambda member: (member.wave, member.device))
    return {**overview_json(Overview(rollout, tallies)), "members": [_member_json(member) for member in members]}


def _wave_json(rollout: Rollout, index: int, tally: Tally) -> dict[str, Any]:
    return {
        "size": sum(tally.values()),
        "succeeded": tally[MemberState.SUCCEEDED],
        "failed": tally[MemberState.FAILED],
        "unreachable": tally[MemberState.UNREACHABLE],
        "incompatible": tally[MemberState.INCOMPATIBLE],
        "rolled_back": tally[MemberState.ROLLED_BACK],
        "held": tally[MemberState.HELD],
        "pending": tally[MemberState.PENDING] + tally[MemberState.DEPLOYED],
        "state": waves.wave_state(rollout, index),
    }


def _member_json(member: Member) -> dict[str, Any]:
    return {
        "device": member.device,
        "wave": member.wave,
        "state": member.state.value,
        "generation": member.generation,
        "reason": member.reason,
    }


def _request(body: RolloutBody) -> Request:
    gates = Gates(**body.gates.model_dump())
    return Request(body.model, body.version, tuple(body.waves), dict(body.selector), gates, body.slot)


def _asked(ask: Callable[[], Rollout]) -> dict[str, Any]:
    try:
        return rollout_json(ask())
    except UnknownRollout as error:
        raise HTTPException(404, f"{error}; `littoral rollout list` (GET /api/v1/rollouts) shows them") from error
    except (IllegalEvent, Conflict) as error:
        raise HTTPException(409, str(error)) from error
