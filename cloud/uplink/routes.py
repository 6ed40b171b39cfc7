"""Results over HTTP: truths in, summary and quarantine out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel, Field

from cloud.uplink.entities import InvalidTruths, Kind, Quarantined, SeveralModels, Summary
from cloud.uplink.rules import LAST_SEQ, MAX_LABEL, MAX_TRUTHS
from cloud.uplink.service import Ingest

MAX_ID = 2**31 - 1


class Truths(BaseModel):
    """The right labels of a source's frames first_frame, first_frame + 1, ..."""

    device: str = Field(examples=["edge-1"])
    source: str = Field(examples=["sensor"])
    first_frame: int = Field(ge=1, le=LAST_SEQ)
    labels: list[Annotated[int, Field(ge=0, le=MAX_LABEL)]] = Field(min_length=1, max_length=MAX_TRUTHS)


def router(ingest: Ingest) -> APIRouter:
    """The routes of this room."""
    routes = APIRouter(prefix="/api/v1", tags=["results"])

    @routes.post("/truths")
    def post_truths(truths: Truths) -> dict[str, int]:
        """Keep the right labels of frames, to judge results by. Posting the same again changes nothing."""
        try:
            ingest.truths(truths.device, truths.source, truths.first_frame, truths.labels)
        except InvalidTruths as error:
            raise HTTPException(422, str(error)) from error
        return {"accepted": len(truths.labels)}

    @routes.get("/summary")
    def get_summary(
        model: Annotated[str | None, Query(description="Model to show by version.")] = None,
    ) -> dict[str, Any]:
        """What the database holds of all frames; by version for one model (needed only if there are several)."""
        try:
            return summary_json(ingest.summary(model))
        except SeveralModels as error:
            raise HTTPException(422, f"{error} (?model=NAME)") from error

    @routes.get("/quarantine")
    def get_quarantine(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
        """Batches that could not be stored as results, newest first, with the reasons."""
        return [quarantined_json(one) for one in ingest.quarantined(limit)]

    @routes.get("/quarantine/{number}/payload", response_class=Response)
    def get_payload(number: Annotated[int, Path(ge=1, le=MAX_ID)]) -> Response:
        """The bytes of a batch in quarantine, as they came."""
        payload = ingest.quarantined_payload(number)
        if payload is None:
            raise HTTPException(404, f"there is no batch {number} in quarantine")
        return Response(payload, media_type="application/octet-stream")

    @routes.get("/audit/{kind}")
    def get_audit(kind: Literal["results", "events", "telemetry"]) -> list[dict[str, Any]]:
        """By device, what it sent by its own numbers, and what the database holds of it. Reads every row."""
        return [asdict(one) for one in ingest.audit(Kind[kind.upper()])]

    return routes


def summary_json(summary: Summary) -> dict[str, Any]:
    """Versions as strings, since they are keys of JSON objects."""
    counts = summary.counts
    return {
        "sent": counts.sent,
        "stored": counts.stored,
        "lost": counts.lost,
        "duplicated": counts.duplicated,
        "results_total": counts.results_total,
        "skipped": counts.skipped,
        "quarantined": counts.quarantined,
        "model": summary.model,
        "accuracy": {str(version): share for version, share in summary.accuracy.items()},
        "results_per_version": {str(version): count for version, count in summary.results_per_version.items()},
    }


def quarantined_json(one: Quarantined) -> dict[str, Any]:
    """`epoch` and `first_seq` as strings: they may exceed what a JSON reader holds exactly."""
    return {
        "id": one.id,
        "device": one.device,
        "kind": one.kind.plural,
        "epoch": str(one.epoch),
        "first_seq": str(one.first_seq),
        "count": one.count,
        "reason": one.reason,
        "bytes": one.size,
        "received_ms": one.received_ms,
    }
