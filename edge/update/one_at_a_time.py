"""Delivery for several slots: what two of them want at once is fetched by one after the other.

A link has one handler for a topic, so two fetches of one artifact would take each other's chunks. Different artifacts
do not wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from weakref import WeakValueDictionary

from edge.update.ports import Delivery
from protos.v1.manifest_pb2 import Artifact

Turns = WeakValueDictionary[bytes, asyncio.Lock]
"""By digest, of what is being fetched now. One for all slots of a device."""


class OneAtATime:
    """It is `Delivery`, of one slot."""

    def __init__(self, delivery: Delivery, turns: Turns) -> None:
        self._delivery = delivery
        self._turns = turns

    async def check(self, model: str, version: int, manifest: bytes, issued_ms: int) -> None:
        """As `Delivery`."""
        await self._delivery.check(model, version, manifest, issued_ms)

    async def manifest(self, digest: bytes) -> bytes:
        """As `Delivery`."""
        async with self._turn(digest):
            return await self._delivery.manifest(digest)

    async def artifact(
        self, artifact: Artifact, progress: Callable[[int, int], None], held: Mapping[bytes, Path]
    ) -> Path:
        """As `Delivery`."""
        async with self._turn(artifact.digest):
            return await self._delivery.artifact(artifact, progress, held)

    def forget(self, keep: bytes | None = None) -> None:
        """As `Delivery`."""
        self._delivery.forget(keep)

    def _turn(self, digest: bytes) -> asyncio.Lock:
        return self._turns.setdefault(digest, asyncio.Lock())
