"""Results and their account over HTTP, for people, dashboards and programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query

from cloud.foundation.cursors import LARGEST
from cloud.foundation.times import unix_ms
from cloud.uplink.aggregates import LATENCY_EDGES_US
from cloud.uplink.consuming import UnknownConsumer
from cloud.uplink.queries import Queries
from cloud.uplink.questions import (
    MAX_PAGE,
    Account,
    Bucket,
    Found,
    Group,
    InvalidQuestion,
    Which,
    as_cursor,
    from_cursor,
    latency_quantile_us,
)
from cloud.uplink.rules import LAST_SEQ, MAX_LABEL

BUCKETS = {bucket.name.lower(): bucket for bucket in Bucket}
Time = Annotated[datetime | None, Query(description="ISO 8601, by the cloud's clock; without a zone: UTC.")]
Share = Annotated[float | None, Query(ge=0, le=1)]


@contextmanager
def refusals() -> Iterator[None]:
    """What a request asks wrongly, as HTTP says it."""
    try:
        yield
    except InvalidQuestion as error:
        raise HTTPException(422, str(error)) from error
    except UnknownConsumer as error:
        raise HTTPException(404, str(error)) from error


def which(
    *,
    device: str | None = None,
    source: str | None = None,
    model: str | None = None,
    version: Annotated[int | None, Query(ge=1, le=LAST_SEQ)] = None,
    label: Annotated[int | None, Query(ge=0, le=MAX_LABEL)] = None,
    from_: Annotated[Time, Query(alias="from")] = None,
    to: Time = None,
    min_confidence: Share = None,
    max_confidence: Share = None,
    slot: str | None = None,
    frame: Annotated[int | None, Query(ge=0, lt=LARGEST, description="Of this frame of a device's source.")] = None,
) -> Which:
    """Which results are meant, from a request's parameters."""
    with refusals():
        times, confidences = (unix_ms(from_), unix_ms(to)), (min_confidence, max_confidence)
        return Which(device, source, model, version, label, *times, *confidences, slot, frame)


Asked = Annotated[Which, Depends(which)]


def router(queries: Queries) -> APIRouter:
    """The routes of questions about results."""
    routes = APIRouter(prefix="/api/v1/results", tags=["results"])

    @routes.get("")
    def get_results(
        asked: Asked,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    ) -> dict[str, Any]:
        """Results, newest first, a page at a time: `next` is the cursor of the page after it, null: there is none."""
        with refusals():
            page = queries.results(asked, from_cursor(cursor) if cursor else None, limit)
        return {
            "results": [found_json(one) for one in page.results],
            "next": as_cursor(page.after) if page.after else None,
        }

    @routes.get("/aggregates")
    def get_aggregates(
        asked: Asked,
        bucket: Literal["minute", "hour", "day"] = "hour",
        group: Annotated[list[Group] | None, Query(description="Tell apart by these.")] = None,
    ) -> dict[str, Any]:
        """Counts, confidence and latency by time, oldest first, from what was kept as results arrived."""
        with refusals():
            return account_json(bucket, queries.account(asked, BUCKETS[bucket], group or ()))

    return routes


def found_json(one: Found) -> dict[str, Any]:
    """`epoch` as a string: it may exceed what a JSON reader holds exactly. `sample`: null, or its `id` and `digest`."""
    return asdict(one) | {"epoch": str(one.epoch)}


def account_json(bucket: str, entries: Sequence[Account]) -> dict[str, Any]:
    """The entries, and by which edges their histograms are divided."""
    return {
        "bucket": bucket,
        "latency_edges_us": list(LATENCY_EDGES_US),
        "entries": [_entry(one) for one in entries],
    }


def _entry(one: Account) -> dict[str, Any]:
    told = {name: getattr(one, name) for name in ("device", "slot", "model", "version", "label")}
    entry: dict[str, Any] = {"begin_ms": one.begin_ms}
    entry |= {name: value for name, value in told.items() if value is not None}
    entry |= {"results": one.results, "confidence_mean": one.confidence}
    if one.latencies:
        quantiles = {f"latency_p{q}_us": latency_quantile_us(one.latencies, q / 100) for q in (50, 95, 99)}
        entry |= {"latency_mean_us": one.latency_us, **quantiles}
        entry |= {"latency_histogram": list(one.latencies), "confidence_histogram": list(one.confidences)}
    return entry
