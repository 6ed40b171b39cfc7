"""Results over HTTP: truths in, summary and audit out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from cloud.uplink.entities import InvalidTruths, SeveralModels, Summary
from cloud.uplink.rules import LAST_SEQ, MAX_LABEL, MAX_TRUTHS
from cloud.uplink.service import Ingest
from protos.kit.kinds import Kind


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
