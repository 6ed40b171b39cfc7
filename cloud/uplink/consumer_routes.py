"""Consumers over HTTP: create, read with patience, acknowledge."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from cloud.uplink.consumers import Consumers
from cloud.uplink.consuming import Reading, Start
from cloud.uplink.query_routes import found_json, refusals
from cloud.uplink.questions import MAX_PAGE

MAX_WAIT_S = 30
LOOK_EVERY_S = 0.25


class New(BaseModel):
    """A consumer to be created."""

    name: str = Field(examples=["billing"])
    start: Start = Field(default=Start.EARLIEST, description="earliest: all results kept; latest: those to come.")


class Ack(BaseModel):
    """A reading that is dealt with."""

    ack: str = Field(max_length=16_384)


def router(consumers: Consumers) -> APIRouter:
    """The routes of consumers."""
    routes = APIRouter(prefix="/api/v1/consumers", tags=["consumers"])

    @routes.get("")
    def get_consumers() -> list[dict[str, Any]]:
        """All consumers, and how many sequence numbers each is behind."""
        return [asdict(one) for one in consumers.every()]

    @routes.post("")
    def post_consumer(new: New) -> dict[str, str]:
        """Create a consumer; one that is there stays where it is."""
        with refusals():
            consumers.create(new.name, new.start, _now_ms())
        return {"name": new.name}

    @routes.delete("/{name}")
    def delete_consumer(name: str) -> dict[str, str]:
        """Forget a consumer."""
        with refusals():
            consumers.remove(name)
        return {"name": name}

    @routes.get("/{name}/results")
    async def get_results(
        request: Request,
        name: str,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Wait so long for the first.")] = 0,
    ) -> dict[str, Any]:
        """What follows, in the order of each device; the same again until its `ack` is posted. Null: nothing yet."""
        deadline = time.monotonic() + wait_s
        while True:
            with refusals():
                reading = await asyncio.to_thread(consumers.read, name, limit)
            left = deadline - time.monotonic()
            if reading or left <= 0 or await request.is_disconnected():
                return reading_json(reading)
            await asyncio.sleep(min(left, LOOK_EVERY_S))

    @routes.post("/{name}/ack")
    def post_ack(name: str, done: Ack) -> dict[str, str]:
        """Go on behind a reading."""
        with refusals():
            consumers.acknowledge(name, done.ack, _now_ms())
        return {"name": name}

    return routes


def reading_json(reading: Reading | None) -> dict[str, Any]:
    """Without anything to read there is nothing to acknowledge."""
    if reading is None:
        return {"results": [], "ack": None}
    return {"results": [found_json(one) for one in reading.results], "ack": reading.ack}


def _now_ms() -> int:
    return int(time.time() * 1000)
