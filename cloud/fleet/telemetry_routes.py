"""The history of a device's telemetry over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from cloud.fleet.entities import Interval, IntervalPlace, IntervalsAsked
from cloud.fleet.routes import HealthView, known_device
from cloud.fleet.service import Fleet
from cloud.fleet.telemetry import TelemetryHistory
from cloud.foundation.cursors import LARGEST, LARGEST_ID, as_cursor, from_cursor
from cloud.foundation.times import unix_ms
from protos.kit.latency import BOUNDS_US
from protos.topics import NAME

MAX_PAGE = 1_000
Time = Annotated[datetime | None, Query(description="ISO 8601, by the device's clock; without a zone: UTC.")]


class IntervalView(BaseModel):
    """What a device measured in one interval; measured_ms by its clock, received_ms by the cloud's.

    health: null from a device that tells nothing of its machine.
    """

    measured_ms: int
    received_ms: int
    interval_s: float
    inferences: int
    inference_errors: int
    latency_p50_us: int
    latency_p95_us: int
    outbox_rows: int
    outbox_bytes: int
    dropped: int
    resident_bytes: int
    model: str
    version: int
    health: HealthView | None


class HistoryView(BaseModel):
    """A page, newest first, and the cursor of the page after it; null: there is none."""

    intervals: list[IntervalView]
    next: str | None


def router(fleet: Fleet, history: TelemetryHistory) -> APIRouter:
    """The routes of telemetry."""
    routes = APIRouter(prefix="/api/v1", tags=["fleet"])

    @routes.get("/devices/{device}/telemetry", response_model=HistoryView)
    def get_telemetry(
        *,
        device: Annotated[str, Path(pattern=f"^{NAME.pattern}$")],
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    ) -> JSONResponse:
        """What a device measured, interval by interval, the newest first; from <= measured < to, by its clock."""
        asked = IntervalsAsked(device, unix_ms(from_), unix_ms(to))
        found = history.page(asked, _place(cursor) if cursor else None, limit)
        if not found.intervals:
            with known_device(device):
                fleet.device(device)
        following = found.after and as_cursor((found.after.measured_ms, found.after.stream, found.after.seq))
        return JSONResponse({"intervals": [interval_json(one) for one in found.intervals], "next": following})

    return routes


def interval_json(interval: Interval) -> dict[str, Any]:
    """As in IntervalView."""
    health = interval.health
    told = health and asdict(health) | {"latency_bounds_us": BOUNDS_US}
    return asdict(interval.telemetry) | {"health": told}


def _place(cursor: str) -> IntervalPlace:
    try:
        return IntervalPlace(*from_cursor(cursor, (LARGEST, LARGEST_ID, LARGEST)))
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
