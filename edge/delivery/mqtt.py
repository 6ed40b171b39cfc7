"""Manifests and artifacts over MQTT, verified before anyone sees them."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import structlog

from edge.delivery.artifacts import Artifacts, Held
from edge.delivery.entities import Limits, NotDelivered
from edge.delivery.transfer import Progress
from edge.delivery.trust import Trust
from protos import topics
from protos.kit import envelope
from protos.kit.link import Link
from protos.v1.manifest_pb2 import Artifact

log = structlog.get_logger()

MANIFEST_PATIENCE_S = 15.0
NOTHING: Held = MappingProxyType({})
NO_LIMITS = Limits()


class Fetcher:
    """What this device lacks, from the broker. Files are kept in `folder` until `forget`."""

    def __init__(self, link: Link, trust: Trust, folder: Path, limits: Limits = NO_LIMITS) -> None:
        self._link = link
        self._trust = trust
        self._artifacts = Artifacts(link, folder, limits)

    async def check(self, model: str, version: int, manifest: bytes, issued_ms: int) -> None:
        """That fresh metadata promises this manifest for the version: as `Trust.check`."""
        await self._trust.check(model, version, manifest, issued_ms)

    async def manifest(self, digest: bytes) -> bytes:
        """The bytes of the manifest with this SHA-256, which is what makes it the right one. Raises NotDelivered."""
        found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(topic: str, data: bytes) -> None:
            # A wrong answer does not end the wait: a broker may be forged, and the right one may still come.
            with suppress(envelope.Untrusted):
                if data and not found.done():
                    found.set_result(_proven(data, digest))
                return
            log.warning("manifest is not what was asked for; ignored", topic=topic)

        topic = topics.manifest(digest)
        await self._link.connected.wait()
        try:
            await self._link.subscribe(take, topic)
            async with asyncio.timeout(MANIFEST_PATIENCE_S):
                return await found
        except TimeoutError as error:
            raise NotDelivered(f"manifest {digest.hex()[:12]} has not come; asking again later") from error
        finally:
            self._link.unsubscribe(topic)

    async def artifact(self, artifact: Artifact, progress: Progress, held: Held = NOTHING) -> Path:
        """The file of an artifact: every chunk, the size and the whole digest proven.

        progress is told chunks present and chunks in all, of the patch while one is fetched. held: what is on this
        device, and spares it chunks, most of them or all. What was fetched of other artifacts is removed.
        Raises Rejected for what can never be had, NotDelivered and OSError for what may be had later; what was received
        is then kept.
        """
        return await self._artifacts.fetch(artifact, progress, held)

    def forget(self, keep: bytes | None = None) -> None:
        """Remove what was fetched, whole or in part, but for the artifact `keep`."""
        self._artifacts.forget(keep)


def _proven(data: bytes, digest: bytes) -> bytes:
    """The payload with this digest. Its envelope's signature is for agents that know no metadata."""
    payload = envelope.parse(data).payload
    if hashlib.sha256(payload).digest() != digest or len(payload) > topics.MAX_MANIFEST_BYTES:
        raise envelope.Untrusted("another manifest, or none")
    return payload
