"""Events over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from cloud.events.entities import Kept, Order, Severity, Which
from cloud.events.service import Events
from cloud.foundation.times import unix_ms
from cloud.uplink.query_routes import Time, refusals
from cloud.uplink.questions import MAX_PAGE, as_cursor, from_cursor

Named = Literal["info", "warning", "error"]
"""The severities, by the names that people use."""


class EventView(BaseModel):
    """Something that happened on a device. happened_ms by its clock, received_ms by the cloud's.

    id: the same for the same event, whenever it is asked for. slot, model, version: null if it is of none. times: how
    often it happened, if the same came soon after.
    """

    id: str
    device: str
    happened_ms: int
    received_ms: int
    kind: str
    severity: Named
    slot: str | None
    model: str | None
    version: int | None
    text: str
    times: int


class EventsView(BaseModel):
    """A page, and the cursor of the page after it; null: there is none."""

    events: list[EventView]
    next: str | None


def router(events: Events) -> APIRouter:
    """The routes of this room."""
    routes = APIRouter(prefix="/api/v1", tags=["events"])

    @routes.get("/events", response_model=EventsView)
    def get_events(
        *,
        device: Annotated[str | None, Query(max_length=63, description="Only of this device.")] = None,
        kind: Annotated[str | None, Query(max_length=63, description="update.committed; update: all of these.")] = None,
        severity: Annotated[Named | None, Query(description="At least that.")] = None,
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
        order: Annotated[Order, Query(description="By the time of their receipt.")] = Order.NEWEST,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    ) -> JSONResponse:
        """What happened on devices, a page at a time. Times are of the receipt, by the cloud's clock."""
        with refusals():
            least = None if severity is None else Severity[severity.upper()]
            which = Which(device, kind, least, unix_ms(from_), unix_ms(to))
            page = events.page(which, from_cursor(cursor) if cursor else None, limit, order)
        following = as_cursor(page.after) if page.after else None
        return JSONResponse({"events": [event_json(one) for one in page.events], "next": following})

    return routes


def event_json(kept: Kept) -> dict[str, Any]:
    """As in EventView."""
    event = kept.event
    return {
        "id": f"{kept.place.stream}-{kept.place.seq}",
        "device": kept.device,
        "happened_ms": event.happened_ms,
        "received_ms": kept.place.received_ms,
        "kind": event.kind,
        "severity": event.severity.name.lower(),
        "slot": event.slot or None,
        "model": event.model or None,
        "version": event.version or None,
        "text": event.text,
        "times": event.times,
    }
