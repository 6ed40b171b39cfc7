"""Quarantine over HTTP: pages, bytes, and another try."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Response

from cloud.foundation import cursors
from cloud.uplink.entities import Quarantined, Retried, UnknownBatch
from cloud.uplink.quarantine import Quarantine
from protos.kit.kinds import Kind

MAX_ID = cursors.LARGEST_ID - 1
BatchId = Annotated[int, Path(ge=1, le=MAX_ID)]


def router(quarantine: Quarantine) -> APIRouter:
    """The routes of what was set aside."""
    routes = APIRouter(prefix="/api/v1/quarantine", tags=["quarantine"])

    @routes.get("")
    def get_quarantine(
        device: Annotated[str | None, Query(max_length=63, description="Only of this device.")] = None,
        kind: Annotated[Literal["results", "events", "telemetry"] | None, Query(description="Only of these.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    ) -> dict[str, Any]:
        """Batches that could not be stored, newest first, with the reasons: `next` is the cursor of the page after."""
        before = _before(cursor) if cursor else None
        found = quarantine.page(limit + 1, before, device, Kind[kind.upper()] if kind else None)
        return {
            "batches": [quarantined_json(one) for one in found[:limit]],
            "next": cursors.as_cursor((found[limit - 1].id,)) if len(found) > limit else None,
        }

    @routes.get("/{number}/payload", response_class=Response)
    def get_payload(number: BatchId) -> Response:
        """The bytes of a batch in quarantine, as they came."""
        with _missing():
            return Response(quarantine.payload(number), media_type="application/octet-stream")

    @routes.post("/{number}/retry")
    def post_retry(number: BatchId) -> dict[str, Any]:
        """Store a batch under its own numbers if it can be stored by now; else it stays, with the newest reason."""
        with _missing():
            return retried_json(quarantine.retry(number))

    return routes


def quarantined_json(one: Quarantined) -> dict[str, Any]:
    """`epoch` and `first_seq` as strings: they may exceed what a JSON reader holds exactly."""
    return {
        "id": one.id,
        "device": one.device,
        "kind": str(one.kind),
        "epoch": str(one.epoch),
        "first_seq": str(one.first_seq),
        "count": one.count,
        "reason": one.reason,
        "bytes": one.size,
        "received_ms": one.received_ms,
    }


def retried_json(one: Retried) -> dict[str, Any]:
    """reason: null, the batch is stored."""
    return {"id": one.id, "stored": one.stored, "reason": one.reason or None}


@contextmanager
def _missing() -> Iterator[None]:
    try:
        yield
    except UnknownBatch as error:
        raise HTTPException(404, str(error)) from error


def _before(cursor: str) -> int:
    try:
        (before,) = cursors.from_cursor(cursor, (cursors.LARGEST_ID,))
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    return before
