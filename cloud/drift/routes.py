"""Drift over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from cloud.drift.entities import DeviceDrift, ModelDrift
from cloud.drift.service import Drifts
from protos.kit.differences import Difference


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
