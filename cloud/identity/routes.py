"""Trust over HTTP: metadata files as devices ask for them, and what they begin with."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Response

from cloud.identity.trust import FleetTrust


def router(trust: FleetTrust) -> APIRouter:
    """The routes of the metadata of one fleet."""
    routes = APIRouter(prefix="/api/v1", tags=["identity"])

    @routes.get("/trust")
    def get_trust() -> dict[str, Any]:
        """The public keys that a device must know before its first start: the content of its trust.json."""
        return trust.trust()

    @routes.get("/metadata/{file}")
    def get_metadata(file: str) -> Response:
        """One file of TUF metadata, such as timestamp.json or 3.snapshot.json; 404 if there is no such version."""
        data = trust.file(file)
        if data is None:
            raise HTTPException(404, f"there is no metadata {file!r}")
        return Response(data, media_type="application/json")

    return routes
