"""What several slots fetch at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from edge.update.one_at_a_time import OneAtATime, Turns
from protos.v1.manifest_pb2 import Artifact


class SlowDelivery:
    """Delivers when it is told to; knows what is under way at once."""

    def __init__(self) -> None:
        self.under_way: list[bytes] = []
        self.go_on = asyncio.Event()

    async def check(self, model: str, version: int, manifest: bytes, issued_ms: int) -> None:
        """Everything is promised."""

    async def manifest(self, digest: bytes) -> bytes:
        return await self._fetched(digest)

    async def artifact(
        self, artifact: Artifact, progress: Callable[[int, int], None], held: Mapping[bytes, Path]
    ) -> Path:
        del progress, held
        return Path((await self._fetched(artifact.digest)).decode())

    def forget(self, keep: bytes | None = None) -> None:
        """Nothing is kept."""

    async def _fetched(self, digest: bytes) -> bytes:
        self.under_way.append(digest)
        await self.go_on.wait()
        self.under_way.remove(digest)
        return digest


def test_the_same_artifact_is_fetched_by_one_after_the_other_and_different_ones_at_once() -> None:
    async def scenario() -> None:
        delivery, turns = SlowDelivery(), Turns()
        slots = [OneAtATime(delivery, turns) for _ in range(3)]
        names = [b"a", b"a", b"b"]
        fetching = [
            asyncio.create_task(slot.artifact(Artifact(digest=name), lambda *_: None, {}))
            for slot, name in zip(slots, names, strict=True)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert delivery.under_way == [b"a", b"b"]
        delivery.go_on.set()
        assert await asyncio.gather(*fetching) == [Path("a"), Path("a"), Path("b")]
        assert not turns, "nothing is remembered of what is done"

    asyncio.run(scenario())


def test_one_that_is_given_up_lets_the_next_one_fetch() -> None:
    async def scenario() -> None:
        delivery, turns = SlowDelivery(), Turns()
        first, second = (
            asyncio.create_task(OneAtATime(delivery, turns).manifest(b"m")),
            asyncio.create_task(OneAtATime(delivery, turns).manifest(b"m")),
        )
        await asyncio.sleep(0)
        first.cancel()
        delivery.go_on.set()
        assert await second == b"m"

    asyncio.run(scenario())
