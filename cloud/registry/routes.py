"""The registry over HTTP: what is registered, for people and programs, and artifacts for whoever has no broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import zstandard
from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import Response, StreamingResponse

from cloud.registry.entities import DamagedBlob, UnknownArtifact, UnknownModel, described
from cloud.registry.service import Registry
from protos.v1.manifest_pb2 import COMPRESSION_ZSTD, Artifact

FOR_EVER = "public, max-age=31536000, immutable"
"""What a digest names never changes."""


def router(registry: Registry) -> APIRouter:
    """GET /api/v1/models[?model=NAME], /api/v1/models/{model}/versions/{version} and /api/v1/artifacts/{digest}."""
    routes = APIRouter(prefix="/api/v1", tags=["models"])

    @routes.get("/models")
    def list_models(model: str | None = None) -> list[dict[str, object]]:
        """Every model version, or those of one model, the oldest first."""
        return [described(version) for version in registry.list(model)]

    @routes.get("/models/{model}/versions/{version}")
    def show_model(model: str, version: int) -> dict[str, object]:
        """One model version."""
        try:
            return described(registry.get(model, version))
        except UnknownModel as error:
            raise HTTPException(404, str(error)) from error

    @routes.get("/artifacts/{digest}", response_class=Response)
    def artifact(digest: str, accept_encoding: Annotated[str, Header()] = "") -> StreamingResponse:
        """The file with this SHA-256 (64 hex digits), zstd-compressed for whoever accepts that. Check the digest."""
        try:
            found = registry.artifact(_digest(digest))
            pieces = _travelling(registry, found)
            first = next(pieces)
        except UnknownArtifact as error:
            raise HTTPException(404, str(error)) from error
        except DamagedBlob as error:
            raise HTTPException(500, str(error)) from error
        return _streamed(found, _joined(first, pieces), zstd=_takes_zstd(accept_encoding))

    return routes


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UnknownArtifact(f"{text!r} is not a digest in hex") from None


def _takes_zstd(accept_encoding: str) -> bool:
    return "zstd" in (coding.partition(";")[0].strip() for coding in accept_encoding.split(","))


def _streamed(artifact: Artifact, pieces: Iterator[bytes], *, zstd: bool) -> StreamingResponse:
    headers = {"Cache-Control": FOR_EVER, "Vary": "Accept-Encoding"}
    if artifact.compression == COMPRESSION_ZSTD and zstd:
        headers |= {"Content-Encoding": "zstd", "Content-Length": str(sum(chunk.size for chunk in artifact.chunks))}
    else:
        headers["Content-Length"] = str(artifact.size)
        if artifact.compression == COMPRESSION_ZSTD:
            pieces = _unpacked(pieces)
    return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)


def _travelling(registry: Registry, artifact: Artifact) -> Iterator[bytes]:
    for index in range(len(artifact.chunks)):
        yield registry.chunk(artifact.digest, index)


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    return (unpacked for piece in pieces if (unpacked := decompressor.decompress(piece)))
