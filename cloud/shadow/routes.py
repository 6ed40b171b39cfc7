"""Challengers over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cloud.registry.entities import UnknownModel
from cloud.shadow import rules
from cloud.shadow.entities import Duel, Measures, NoDevices, Request, Standing
from cloud.shadow.service import Shadows

MAX_SELECTOR = 16
MAX_DEVICES = 10_000

LabelText = Annotated[str, StringConstraints(min_length=1, max_length=253)]
DeviceText = Annotated[str, StringConstraints(min_length=1, max_length=63)]


class StopBody(BaseModel):
    """Which version, and on which devices: those with all these labels, or these. Neither: all."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(examples=["digits"])
    version: Annotated[int, Field(ge=1, le=2**63 - 1, strict=True)] = Field(examples=[2])
    selector: dict[LabelText, Annotated[str, StringConstraints(max_length=253)]] = Field(
        default_factory=dict, max_length=MAX_SELECTOR, examples=[{"site": "a"}]
    )
    devices: list[DeviceText] = Field(default_factory=list, max_length=MAX_DEVICES)


class StartBody(StopBody):
    """Besides: which share of the champions' frames the challenger is to answer."""

    share: float = Field(default=0.1, gt=0, le=1)


class ConfusionView(BaseModel):
    """Frames to which champion and challenger gave these labels, by class index."""

    champion: int
    challenger: int
    frames: int


class MeasuresView(BaseModel):
    """What a comparison comes to. Null without frames. Costs in µs of processor time a frame.

    confidence_change: mean of the challenger's confidence less the champion's.
    """

    offered: int
    compared: int
    agreed: int
    agreement: float | None
    confidence_change: float | None
    champion_p50_us: float
    champion_p95_us: float
    challenger_p50_us: float
    challenger_p95_us: float
    confusions: list[ConfusionView]


class StandingView(MeasuresView):
    """A challenger on a device. champion: what it is compared with, null before it is known."""

    device: str
    slot: str
    model: str
    version: int
    share: float
    state: str
    reason: str
    champion: str | None
    champion_version: int | None
    started_ms: int
    received_ms: int | None


class DuelView(MeasuresView):
    """All devices' comparisons of one challenger with one champion together."""

    model: str
    version: int
    champion: str
    champion_version: int
    devices: int


class ShadowView(BaseModel):
    """By device, and by pair of versions over all these devices."""

    devices: list[StandingView]
    duels: list[DuelView]


def router(shadows: Shadows, now_ms: Callable[[], int] = lambda: int(time.time() * 1000)) -> APIRouter:
    """The routes of this room."""
    routes = APIRouter(prefix="/api/v1/shadow", tags=["shadow"])

    @routes.get("", response_model=ShadowView)
    def show(
        model: Annotated[str | None, Query(max_length=63, description="Only this model.")] = None,
        version: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only this version.")] = None,
    ) -> JSONResponse:
        """The newest challenger of each device, and how it does beside the champion."""
        return JSONResponse(shadow_json(shadows.standings(model, version)))

    @routes.post("/start", status_code=201, response_model=ShadowView)
    def start(body: StartBody) -> JSONResponse:
        """Have a version run beside the champion on devices that have reported by now."""
        return JSONResponse(_asked(lambda: shadows.start(_request(body, body.share), now_ms())), 201)

    @routes.post("/stop", response_model=ShadowView)
    def stop(body: StopBody) -> JSONResponse:
        """Have it run no more."""
        return JSONResponse(_asked(lambda: shadows.stop(_request(body), now_ms())))

    return routes


def shadow_json(standings: Sequence[Standing]) -> dict[str, Any]:
    """As in ShadowView."""
    return {
        "devices": [_standing_json(one) for one in standings],
        "duels": [_duel_json(one) for one in rules.duels(standings)],
    }


def _standing_json(one: Standing) -> dict[str, Any]:
    challenge, champion = one.challenge, one.champion or (None, None)
    return {
        "device": challenge.device,
        "slot": challenge.slot,
        "model": challenge.model,
        "version": challenge.version,
        "share": challenge.share,
        "state": one.state.value,
        "reason": one.reason,
        "champion": champion[0],
        "champion_version": champion[1],
        "started_ms": challenge.started_ms,
        "received_ms": challenge.received_ms or None,
        **_measures_json(rules.measures([challenge.comparison])),
    }


def _duel_json(one: Duel) -> dict[str, Any]:
    return {
        "model": one.challenger[0],
        "version": one.challenger[1],
        "champion": one.champion[0],
        "champion_version": one.champion[1],
        "devices": one.devices,
        **_measures_json(one.measures),
    }


def _measures_json(found: Measures) -> dict[str, Any]:
    return {
        "offered": found.offered,
        "compared": found.compared,
        "agreed": found.agreed,
        "agreement": found.agreement,
        "confidence_change": found.change,
        "champion_p50_us": found.champion_p50_us,
        "champion_p95_us": found.champion_p95_us,
        "challenger_p50_us": found.challenger_p50_us,
        "challenger_p95_us": found.challenger_p95_us,
        "confusions": [
            {"champion": first, "challenger": second, "frames": frames} for first, second, frames in found.confusions
        ],
    }


def _request(body: StopBody, share: float = 0.0) -> Request:
    return Request(body.model, body.version, share, dict(body.selector), frozenset(body.devices))


def _asked(ask: Callable[[], Sequence[Standing]]) -> dict[str, Any]:
    try:
        return shadow_json(ask())
    except UnknownModel as error:
        raise HTTPException(404, str(error.args[0])) from error
    except NoDevices as error:
        raise HTTPException(409, str(error)) from error
