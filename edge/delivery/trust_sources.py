"""Where this device gets trust's metadata: one port, from the broker or from the cloud's HTTP API.

No source is believed: whatever it says is verified by the keys that the device knows. It can only keep news away.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol
from urllib.parse import quote

import urllib3
from google.protobuf.message import DecodeError

from edge.delivery.entities import Absent, NotDelivered
from protos import topics
from protos.kit.link import Link
from protos.v1.metadata_pb2 import MetadataIndex

PATIENCE_S = 10.0
"""For one file, however slowly it comes."""

HTTP_READ_S = 5.0
PIECE_BYTES = 16 * 1024

ROOT_FILE = re.compile(r"([0-9]{1,18})\.root\.json")


class Source(Protocol):
    """How a metadata file comes to this device."""

    async def file(self, name: str) -> bytes:
        """At most MAX_METADATA_BYTES. Raises Absent if the source says there is none, NotDelivered if nothing."""

    @property
    def announced(self) -> int:
        """The newest timestamp's version by what the source tells unasked; 0: it tells nothing now."""

    async def news(self, seen: int) -> None:
        """Return when it tells of another one than `seen`."""


class FromBroker:
    """Retained messages. A broker never says that it has none: of new roots, the only files looked for in vain, the
    index tells.
    """

    def __init__(self, link: Link, patience_s: float = PATIENCE_S) -> None:
        self._link = link
        self._patience_s = patience_s
        self._index: MetadataIndex | None = None
        self._told = asyncio.Event()
        self._changed = asyncio.Event()
        self._listening = False

    @property
    def announced(self) -> int:
        """From the index, which comes again after each connect and whenever something has changed."""
        return self._index.timestamp if self._index and self._link.connected.is_set() else 0

    async def news(self, seen: int) -> None:
        """Return when the index tells of another one than `seen`."""
        while self.announced in {0, seen}:
            self._changed.clear()
            await self._changed.wait()

    async def file(self, name: str) -> bytes:
        """Its retained message."""
        try:
            async with asyncio.timeout(self._patience_s):
                await self._link.connected.wait()
                if found := ROOT_FILE.fullmatch(name):
                    await self._check_root(int(found[1]))
                return await self._retained(name)
        except TimeoutError as error:
            raise NotDelivered(f"metadata {name} has not come over MQTT within {self._patience_s:g} s") from error

    async def _check_root(self, version: int) -> None:
        if not self._listening:
            await self._link.subscribe(self._take_index, topics.METADATA_INDEX)
            self._listening = True
        await self._told.wait()
        assert self._index is not None, "it was told"
        if version > self._index.root:
            raise Absent(f"the newest root is {self._index.root}")

    def _take_index(self, _: str, payload: bytes) -> None:
        if not 0 < len(payload) <= topics.MAX_INDEX_BYTES:
            return
        try:
            self._index = MetadataIndex.FromString(payload)
        except DecodeError:
            return
        self._told.set()
        self._changed.set()

    async def _retained(self, name: str) -> bytes:
        found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(_: str, payload: bytes) -> None:
            if payload and not found.done():
                found.set_result(payload)

        topic = topics.metadata(name)
        try:
            await self._link.subscribe(take, topic)
            return await found
        finally:
            self._link.unsubscribe(topic)


class FromApi:
    """The cloud's HTTP API at `address`, http:// or https://."""

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        self._address = address
        self._patience_s = patience_s
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(HTTP_READ_S))

    announced = 0

    async def news(self, seen: int) -> None:  # noqa: ARG002 - the port's
        """It tells nothing unasked."""
        await asyncio.Event().wait()

    async def file(self, name: str) -> bytes:
        """The body of the answer."""
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._body(f"{self._address}/api/v1/metadata/{quote(name, safe='')}")
        except (TimeoutError, urllib3.exceptions.HTTPError) as error:
            raise NotDelivered(f"metadata {name} has not come from {self._address}: {error}") from error

    async def _body(self, url: str) -> bytes:
        answer = await asyncio.to_thread(self._pool.request, "GET", url, preload_content=False, redirect=False)
        try:
            if answer.status in {403, 404}:
                raise Absent(f"{url} answers {answer.status}")
            if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
                raise NotDelivered(f"{url} answers {answer.status}")
            body = b""
            while len(body) <= topics.MAX_METADATA_BYTES:
                piece = await asyncio.to_thread(answer.read1, PIECE_BYTES)
                if not piece:
                    return body
                body += piece
            raise NotDelivered(f"{url} sends more than {topics.MAX_METADATA_BYTES} bytes")
        finally:
            answer.close()
