"""What goes to the broker, chunk by chunk, noted once it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from cloud.delivery import metrics
from cloud.delivery.entities import Bundle
from cloud.delivery.rules import Holdings
from cloud.delivery.window import Slots, in_window
from cloud.fleet.entities import Desired
from cloud.registry.service import Registry
from protos import topics
from protos.kit.link import Link, Offline

WINDOW = 16
"""Messages that may wait for the broker's acknowledgement: 1 MB of chunks."""


class Outgoing:
    """Publications on one connection after the other. What was begun on a former connection raises Offline.

    So an acknowledgement counts only for the broker that gave it. `connection` is the number that a caller notes before
    it decides what to say.
    """

    def __init__(self, link: Link, registry: Registry, holdings: Holdings) -> None:
        self._link = link
        self._registry = registry
        self._holdings = holdings
        self._slots = Slots(WINDOW)
        self.connection = 0

    def connected(self, now_ms: int) -> None:
        """Another connection begins."""
        self.connection += 1
        self._holdings.connected(now_ms)

    async def bring(self, connection: int, bundle: Bundle, chunks: Sequence[tuple[bytes, int]]) -> None:
        """Publish what is missing of a bundle: the manifest first, so that what a crash leaves half done is found.

        Raises Offline, UnknownArtifact or DamagedBlob; what was acknowledged until then is noted.
        """
        if not self._holdings.confirmed(bundle.manifest):
            await self._say(connection, topics.manifest(bundle.manifest), bundle.signed)
            self._holdings.has_manifest(bundle.manifest)
        await self.send(connection, chunks)

    async def send(self, connection: int, chunks: Sequence[tuple[bytes, int]]) -> None:
        """Publish chunks, few before many. One that is cleared meanwhile is left out."""

        async def one(chunk: tuple[bytes, int]) -> None:
            async with self._slots.one(len(chunks)):
                await self._say_chunk(connection, *chunk)

        await in_window(WINDOW, one, chunks)

    async def tell(self, connection: int, rows: Sequence[Desired]) -> None:
        """Publish desired states. They wait for no chunk."""

        async def one(row: Desired) -> None:
            await self._say(connection, topics.desired(row.device, row.slot), row.signed)
            self._holdings.told(row)
            metrics.DESIRED.inc()

        await in_window(WINDOW, one, rows)

    async def clear(self, connection: int, manifest: bytes, artifacts: Mapping[bytes, int]) -> None:
        """Have the broker forget a manifest and artifacts, but for one that is needed again meanwhile."""

        async def one(chunk: tuple[bytes, int]) -> None:
            if not self._holdings.wants(chunk[0]):
                await self._say(connection, topics.chunk(*chunk), b"")

        await in_window(WINDOW, one, [(artifact, index) for artifact, n in artifacts.items() for index in range(n)])
        if not self._holdings.knows(manifest):
            await self._say(connection, topics.manifest(manifest), b"")

    async def _say_chunk(self, connection: int, artifact: bytes, index: int) -> None:
        if not self._holdings.wants(artifact):
            return
        data = await asyncio.to_thread(self._registry.chunk, artifact, index)
        if self._holdings.wants(artifact):  # still: what is cleared meanwhile must not come back
            await self._say(connection, topics.chunk(artifact, index), data)
            metrics.CHUNKS.inc()
            metrics.CHUNK_BYTES.inc(len(data))
            self._holdings.has_chunk(artifact, index)

    async def _say(self, connection: int, topic: str, payload: bytes) -> None:
        """Publish, retained, on the connection of this number."""
        if connection == self.connection:
            await self._link.publish(topic, payload, retain=True)
        if connection != self.connection:
            raise Offline("another connection began")
