"""Samples over HTTP: policies in, samples out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cloud.samples.entities import InvalidPolicy, Policy, Sample, UnknownPolicy, UnknownSample, Wanted
from cloud.samples.service import Samples
from cloud.uplink.queries import Queries
from cloud.uplink.query_routes import found_json
from cloud.uplink.questions import Which

MAX_SELECTOR = 16
MAX_ID = 2**31 - 1

Label = Annotated[str, StringConstraints(max_length=253)]
Name = Annotated[str | None, Query(max_length=63)]
SampleId = Annotated[int, Path(ge=1, le=MAX_ID)]


class PolicyBody(BaseModel):
    """What devices shall sample. Give below, share or disagreement."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(default="", max_length=63, description="Only frames of this model; empty: of any.")
    selector: dict[Label, Label] = Field(
        default_factory=dict, max_length=MAX_SELECTOR, description="Only devices with these labels; empty: all."
    )
    below: float = Field(default=0, ge=0, le=1, description="Frames whose confidence is below.", examples=[0.6])
    disagreement: bool = Field(default=False, description="Frames that champion and challenger answer differently.")
    share: float = Field(default=0, ge=0, le=1, description="Of all frames, drawn by lot.", examples=[0.001])
    bytes_per_day: int = Field(ge=1, lt=2**62, description="A device's budget for a day (UTC).", examples=[5_000_000])


class PolicyView(PolicyBody):
    """A policy and its name."""

    name: str


def router(samples: Samples, queries: Queries) -> APIRouter:
    """The routes of this room."""
    routes = APIRouter(prefix="/api/v1", tags=["samples"])
    _add_policies(routes, samples)
    _add_samples(routes, samples, queries)
    return routes


def _add_policies(routes: APIRouter, samples: Samples) -> None:
    @routes.get("/sample-policies", response_model=list[PolicyView])
    def list_policies() -> list[dict[str, Any]]:
        """What devices shall sample."""
        return [policy_json(policy) for policy in samples.policies()]

    @routes.put("/sample-policies/{name}", response_model=PolicyView)
    def set_policy(name: str, body: PolicyBody) -> dict[str, Any]:
        """Set a policy, in place of one of the same name. Devices that stream follow it within seconds."""
        policy = Policy(name=name, **body.model_dump())
        try:
            samples.set_policy(policy)
        except InvalidPolicy as error:
            raise HTTPException(422, str(error)) from error
        return policy_json(policy)

    @routes.delete("/sample-policies/{name}", status_code=204)
    def remove_policy(name: str) -> None:
        """Remove a policy. What was sampled by it stays."""
        try:
            samples.remove_policy(name)
        except UnknownPolicy as error:
            raise HTTPException(404, f"{error}: GET /api/v1/sample-policies lists those that there are") from error


def _add_samples(routes: APIRouter, samples: Samples, queries: Queries) -> None:
    @routes.get("/samples")
    def list_samples(
        *,
        device: Name = None,
        model: Name = None,
        reason: Annotated[str | None, Query(max_length=64, examples=["low confidence"])] = None,
        source: Name = None,
        frame: Annotated[int | None, Query(ge=1, lt=2**62)] = None,
        before: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Last id of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[dict[str, Any]]:
        """Sampled frames with their results, the newest first. The sample of a result: by device, source and frame."""
        wanted = Wanted(device, model, reason, source, frame, before, limit)
        return [sample_json(one, samples.shape(one.offer.manifest)) for one in samples.listed(wanted)]

    @routes.get("/samples/{sample}")
    def get_sample(sample: SampleId) -> dict[str, Any]:
        """One sample."""
        found = _found(sample)
        return sample_json(found, samples.shape(found.offer.manifest))

    @routes.get("/samples/{sample}/results")
    def get_results(sample: SampleId) -> list[dict[str, Any]]:
        """What models said of the sample's frame, the newest first: of whichever version, in whichever slot."""
        found = _found(sample)
        which = Which(device=found.device, source=found.offer.source, frame=found.offer.frame)
        return [found_json(one) for one in queries.results(which).results]

    @routes.get("/samples/{sample}/frame", response_class=Response)
    def get_frame(sample: SampleId) -> Response:
        """The frame itself: raw pixels, uint8, in the order of `shape`."""
        try:
            data = samples.frame(_found(sample))
        except UnknownSample as error:
            raise HTTPException(404, str(error)) from error
        return Response(data, media_type="application/octet-stream")

    def _found(sample: int) -> Sample:
        try:
            return samples.sample(sample)
        except UnknownSample as error:
            raise HTTPException(404, f"{error}: GET /api/v1/samples lists those that there are") from error


def policy_json(policy: Policy) -> dict[str, Any]:
    """As in PolicyView."""
    return {
        "name": policy.name,
        "model": policy.model,
        "selector": dict(policy.selector),
        "below": policy.below,
        "disagreement": policy.disagreement,
        "share": policy.share,
        "bytes_per_day": policy.bytes_per_day,
    }


def sample_json(sample: Sample, shape: tuple[int, ...]) -> dict[str, Any]:
    """`epoch` and `seq` of the result as strings: they may exceed what a JSON reader holds exactly."""
    offer, result = sample.offer, sample.result
    return {
        "id": sample.id,
        "device": sample.device,
        "source": offer.source,
        "frame": offer.frame,
        "model": offer.model,
        "version": offer.version,
        "label": offer.label,
        "confidence": offer.confidence,
        "reason": offer.reason,
        "captured_us": offer.captured_us,
        "received_ms": sample.received_ms,
        "digest": offer.digest.hex(),
        "bytes": offer.size,
        "shape": list(shape),
        "result": {"epoch": str(result.epoch), "seq": str(result.seq)} if result else None,
    }
