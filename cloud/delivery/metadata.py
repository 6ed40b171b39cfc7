"""Trust's metadata on the broker: every file that devices may ask for, renewed before it expires, put right if changed.

Files that others need come first: whoever has read a timestamp finds the snapshot that it names.
"""

from __future__ import annotations

import asyncio
import hashlib
import time

import structlog

from cloud.identity.entities import ROOT, SNAPSHOT, TIMESTAMP, MetadataFile
from cloud.identity.trust import FleetTrust
from protos import topics
from protos.kit.keys import KeysFailed
from protos.kit.link import Link, Offline
from protos.v1.metadata_pb2 import MetadataIndex

POLL_S = 0.5
RENEW_S = 30.0
RETRY_S = 5.0
MAX_HEARD = 10_000
"""Files on the broker that are remembered; whoever fills it with others cannot fill this process."""

_FILE = topics.matcher(topics.METADATA)

log = structlog.get_logger()


class MetadataPublisher:
    """Keeps the metadata on the broker. The link is run by its owner."""

    def __init__(self, link: Link, trust: FleetTrust) -> None:
        self._link = link
        self._trust = trust
        self._there: dict[str, bytes] = {}
        self._wanted: dict[str, bytes] = {}
        self._worries: list[str] = []

    async def run(self) -> None:
        """Renew and publish until cancelled."""
        self._link.on_connect(self._begin)
        await self._link.subscribe(self._hear, topics.ALL_METADATA)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew_for_ever(), name="renew metadata")
            tasks.create_task(self._publish_for_ever(), name="publish metadata")

    async def _begin(self) -> None:
        self._there.clear()

    def _hear(self, topic: str, payload: bytes) -> None:
        """What the broker holds, by us or by others."""
        name = topic.rpartition("/")[2]
        if name in self._wanted or (_FILE.fullmatch(topic) and len(self._there) < MAX_HEARD):
            self._there[name] = _digest(payload)

    async def _renew_for_ever(self) -> None:
        while True:
            try:
                worries = await asyncio.to_thread(self._trust.renew, int(time.time() * 1000))
            except KeysFailed as error:
                worries = [str(error)]
            except Exception:
                log.exception("metadata could not be renewed")
                await asyncio.sleep(RETRY_S)
                continue
            if worries != self._worries:
                log.warning("metadata needs a person", reasons=worries)
            self._worries = worries
            await asyncio.sleep(RENEW_S)

    async def _publish_for_ever(self) -> None:
        while True:
            await self._link.connected.wait()
            try:
                await self._publish()
            except Offline as error:
                log.debug("metadata waits for the broker", error=str(error))
            except Exception:
                log.exception("metadata could not be published")
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(POLL_S)

    async def _publish(self) -> None:
        """Bring the broker to what the database says."""
        version = await asyncio.to_thread(self._trust.timestamp_version)
        if MetadataIndex.FromString(self._wanted.get("index", b"")).timestamp != version:
            self._wanted = ordered(await asyncio.to_thread(self._trust.files))
        for name, data in self._wanted.items():
            if self._there.get(name) != _digest(data):
                self._there[name] = _digest(data)
                await self._link.publish(topics.metadata(name), data, retain=True)
        for name in [name for name, digest in self._there.items() if name not in self._wanted and digest]:
            self._there[name] = b""
            await self._link.publish(topics.metadata(name), b"", retain=True)


def ordered(files: list[MetadataFile]) -> dict[str, bytes]:
    """The files by name in the order of publication, the index that announces them last."""
    last = {SNAPSHOT: 1, TIMESTAMP: 2}
    newest = {file.role: file.version for file in files}
    index = MetadataIndex(root=newest.get(ROOT, 0), timestamp=newest.get(TIMESTAMP, 0))
    inner = sorted(files, key=lambda file: (last.get(file.role, 0), file.role, file.version))
    return {**{file.name: file.data for file in inner}, "index": index.SerializeToString()}


def _digest(data: bytes) -> bytes:
    """What tells one payload from another; an empty one is none."""
    return hashlib.sha256(data).digest() if data else b""
