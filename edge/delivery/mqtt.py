"""Manifests and artifacts over MQTT, verified before anyone sees them."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path

import structlog

from edge.delivery import rules
from edge.delivery.entities import NotDelivered
from edge.delivery.partial import Partial
from edge.delivery.transfer import Progress, Transfer
from edge.delivery.trust import Trust
from edge.foundation.threads import finished
from protos import topics
from protos.kit import envelope
from protos.kit.files import digest_of
from protos.kit.link import Link
from protos.v1.manifest_pb2 import Artifact

log = structlog.get_logger()

MANIFEST_PATIENCE_S = 15.0


class Fetcher:
    """What this device lacks, from the broker. Files are kept in `folder` until `forget`."""

    def __init__(self, link: Link, trust: Trust, folder: Path) -> None:
        self.check = trust.check
        self._link = link
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

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
            await self._link.unsubscribe(topic)

    async def artifact(self, artifact: Artifact, progress: Progress) -> Path:
        """The file of an artifact: every chunk, the size and the whole digest proven.

        progress is told chunks present and chunks in all. What was fetched of other artifacts is removed.
        Raises Rejected for what can never be had, NotDelivered and OSError for what may be had later; what was received
        is then kept.
        """
        empty = rules.plan(artifact)
        await finished(self.forget, artifact.digest)
        target = self._folder / f"{artifact.digest.hex()}.tflite"
        if await finished(_holds, target, artifact.digest):
            progress(len(empty.digests), len(empty.digests))
            return target
        with Partial(self._folder / f"{artifact.digest.hex()}.part", empty) as partial:
            await finished(partial.prove)
            await Transfer(self._link, artifact.digest, partial, progress).run()
            await finished(partial.unpack, artifact, target)
        return target

    def forget(self, keep: bytes | None = None) -> None:
        """Remove what was fetched, whole or in part, but for the artifact `keep`."""
        for path in self._folder.iterdir():
            if keep is None or not path.name.startswith(keep.hex()):
                path.unlink(missing_ok=True)


def _proven(data: bytes, digest: bytes) -> bytes:
    """The payload with this digest. Its envelope's signature is for agents that know no metadata."""
    payload = envelope.parse(data).payload
    if hashlib.sha256(payload).digest() != digest or len(payload) > topics.MAX_MANIFEST_BYTES:
        raise envelope.Untrusted("another manifest, or none")
    return payload


def _holds(path: Path, digest: bytes) -> bool:
    """Whether `path` is there, whole."""
    return path.exists() and digest_of(path) == digest
