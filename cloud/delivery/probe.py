"""Whether the broker has what devices say is lost: it shows what it retains to whoever subscribes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress

from cloud.registry.service import Registry
from protos import topics
from protos.kit.link import Link

SHOWN_S = 0.5
"""Between the broker's answer to a subscription and what it retains, at most."""
LOOKS = 2
"""What is not shown on the way here once may be the next time."""
PROBED_AT_ONCE = 32
"""AWS IoT Core allows 50 subscriptions on a connection."""

Chunk = tuple[bytes, int]


async def lost(link: Link, registry: Registry, chunks: Sequence[Chunk]) -> list[Chunk]:
    """Those of the chunks, at most PROBED_AT_ONCE, that the broker does not have as they were registered.

    Raises UnknownArtifact.
    """
    digests = {topics.chunk(*chunk): await asyncio.to_thread(_digest, registry, chunk) for chunk in chunks}
    missing = dict(zip(digests, chunks, strict=True))
    all_shown = asyncio.Event()

    def take(topic: str, payload: bytes) -> None:
        if hashlib.sha256(payload).digest() == digests[topic]:
            missing.pop(topic, None)
        if not missing:
            all_shown.set()

    try:
        for _ in range(LOOKS):
            await link.subscribe(take, *missing)
            with suppress(TimeoutError):
                async with asyncio.timeout(SHOWN_S):
                    await all_shown.wait()
                    break
    finally:
        link.unsubscribe(*digests)
    return list(missing.values())


def _digest(registry: Registry, chunk: Chunk) -> bytes:
    artifact, index = chunk
    return registry.artifact(artifact).chunks[index].digest
