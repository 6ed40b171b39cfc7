"""The registry over HTTP: what is registered, for people and programs."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException

from cloud.registry.entities import UnknownModel, described
from cloud.registry.service import Registry


def router(registry: Registry) -> APIRouter:
    """GET /api/v1/models[?model=NAME] and /api/v1/models/{model}/versions/{version}."""
    routes = APIRouter(prefix="/api/v1/models", tags=["models"])

    @routes.get("")
    def list_models(model: str | None = None) -> list[dict[str, object]]:
        """Every model version, or those of one model, the oldest first."""
        return [described(version) for version in registry.list(model)]

    @routes.get("/{model}/versions/{version}")
    def show_model(model: str, version: int) -> dict[str, object]:
        """One model version."""
        try:
            return described(registry.get(model, version))
        except UnknownModel as error:
            raise HTTPException(404, str(error)) from error

    return routes
