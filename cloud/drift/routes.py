"""Drift over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from cloud.drift.entities import HOUR_MS, DeviceDrift, JudgedHour, ModelDrift, Stretch, TooMuch
from cloud.drift.service import Drifts
from cloud.foundation.times import unix_ms
from cloud.uplink.query_routes import Time
from protos.kit.differences import Difference

LAST_HOUR = 2**31 - 1
"""What the column holds; calendars end before."""


class MeasuresView(BaseModel):
    """A difference from the model's reference. PSI: 0 is none; p: how likely chance alone makes as much."""

    frames: int
    labels_psi: float
    labels_p: float
    confidences_psi: float
    confidences_p: float
    input_shift: float
    alarm: str


class DeviceDriftView(MeasuresView):
    """A device's last window. since_ms: since when it drifts, null if it does not."""

    device: str
    slot: str
    model: str
    version: int
    variant: str
    since_ms: int | None
    began_ms: int
    ended_ms: int
    received_ms: int


class ModelDriftView(MeasuresView):
    """All devices' last windows of a model version together."""

    model: str
    version: int
    variant: str
    devices: int
    drifting: int


class DriftView(BaseModel):
    """By device, and by model version over all these devices."""

    devices: list[DeviceDriftView]
    models: list[ModelDriftView]


class DriftHourView(MeasuresView):
    """What was seen and said in the hour that begins at begin_ms, by a device's slot or (null) all devices together."""

    begin_ms: int
    device: str | None
    slot: str | None
    model: str
    version: int
    variant: str
    windows: int


def router(drifts: Drifts) -> APIRouter:
    """The routes of this room."""
    routes = APIRouter(prefix="/api/v1", tags=["drift"])

    @routes.get("/drift", response_model=DriftView)
    def drift(
        model: Annotated[str | None, Query(max_length=63, description="Only this model.")] = None,
        device: Annotated[str | None, Query(max_length=63, description="Only this device.")] = None,
    ) -> JSONResponse:
        """How far devices' last windows are from their models' references."""
        windows = drifts.devices(model, device)
        return JSONResponse(
            {
                "devices": [device_json(window) for window in windows],
                "models": [model_json(one) for one in drifts.models(windows)],
            }
        )

    @routes.get("/drift/history", response_model=list[DriftHourView])
    def history(
        model: Annotated[str | None, Query(max_length=63, description="Only this model.")] = None,
        device: Annotated[str | None, Query(max_length=63, description="This device's slots, not all devices.")] = None,
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
    ) -> JSONResponse:
        """Hour by hour, oldest first, how far from the models' references it was. Whole hours, by the cloud's clock."""
        first, last = (None if at is None else at // HOUR_MS for at in (unix_ms(from_), unix_ms(to)))
        stretch = Stretch(first or 0, LAST_HOUR if last is None else last, model, device or None)
        try:
            return JSONResponse([hour_json(one) for one in drifts.hours(stretch)])
        except TooMuch as error:
            raise HTTPException(422, str(error)) from error

    return routes


def device_json(window: DeviceDrift) -> dict[str, Any]:
    """As in DeviceDriftView."""
    return {
        "device": window.device,
        "slot": window.slot,
        "model": window.model,
        "version": window.version,
        "variant": window.variant,
        "since_ms": window.since_ms or None,
        "began_ms": window.began_ms,
        "ended_ms": window.ended_ms,
        "received_ms": window.received_ms,
        **_measures_json(window.difference, window.alarm),
    }


def model_json(one: ModelDrift) -> dict[str, Any]:
    """As in ModelDriftView."""
    return {
        "model": one.model,
        "version": one.version,
        "variant": one.variant,
        "devices": one.devices,
        "drifting": one.drifting,
        **_measures_json(one.difference, one.alarm),
    }


def hour_json(hour: JudgedHour) -> dict[str, Any]:
    """As in DriftHourView."""
    seen = hour.seen
    return {
        "begin_ms": seen.hour * HOUR_MS,
        "device": seen.device,
        "slot": seen.slot,
        "model": seen.model,
        "version": seen.version,
        "variant": seen.variant,
        "windows": seen.windows,
        **_measures_json(hour.difference, hour.alarm),
    }


def _measures_json(found: Difference, alarm: str) -> dict[str, Any]:
    return {
        "frames": found.frames,
        "labels_psi": found.labels_psi,
        "labels_p": found.labels_p,
        "confidences_psi": found.confidences_psi,
        "confidences_p": found.confidences_p,
        "input_shift": found.input_shift,
        "alarm": alarm,
    }
