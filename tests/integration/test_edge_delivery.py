"""Manifests and artifacts over a real broker: lossy, forged, killed in the middle."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.delivery import mqtt, rules, transfer
from edge.delivery.entities import NotDelivered, Rejected
from edge.delivery.mqtt import Fetcher
from edge.delivery.trust import Trust
from edge.foundation.clock import now_ms
from protos import topics
from protos.kit import envelope, link
from protos.kit.link import Link
from protos.v1.delivery_pb2 import RepairRequest
from protos.v1.manifest_pb2 import COMPRESSION_ZSTD, Artifact, ChunkRef, Manifest, Variant
from tests.sites import Site, Sort, every, scenario

KEY = Ed25519PrivateKey.generate()
CHUNK = 4096
DATA = hashlib.shake_128(b"a model").digest(40 * CHUNK)
TRAVELLING = zstandard.compress(DATA)
CHUNKS = [TRAVELLING[start : start + CHUNK] for start in range(0, len(TRAVELLING), CHUNK)]
ARTIFACT = Artifact(
    digest=hashlib.sha256(DATA).digest(),
    size=len(DATA),
    compression=COMPRESSION_ZSTD,
    chunks=[ChunkRef(digest=hashlib.sha256(chunk).digest(), size=len(chunk)) for chunk in CHUNKS],
)
MANIFEST = Manifest(model="digits", version=1, variants=[Variant(name="int8", artifact=ARTIFACT)]).SerializeToString()
DIGEST = hashlib.sha256(MANIFEST).digest()


class Publisher:
    """A publisher with faults to switch on: it loses chunks, and answers repair requests."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[list[int]] = []

    async def publish(self, indices: Iterable[int] = range(len(CHUNKS)), data: bytes | None = None) -> None:
        await self._link.connected.wait()
        for index in indices:
            payload = CHUNKS[index] if data is None else data
            await self._link.publish(topics.chunk(ARTIFACT.digest, index), payload, retain=True)

    async def repair(self) -> None:
        await self._link.subscribe(self._repair, topics.ALL_REPAIR)

    def _repair(self, topic: str, payload: bytes) -> None:
        request = RepairRequest.FromString(payload)
        assert request.artifact == topics.artifact_of(topic) == ARTIFACT.digest
        missing = [i for i in range(len(CHUNKS)) if request.missing[i // 8] >> i % 8 & 1]
        self.requests.append(missing)
        self._tasks.add(asyncio.create_task(self.publish(missing)))


class Counter(Link):
    """A device's link that counts the chunks that came."""

    def __init__(self, link: Link) -> None:
        self.__dict__ = link.__dict__
        self.came: list[int] = []

    async def subscribe(self, handler: Callable[[str, bytes], None], *wanted: str) -> None:  # type: ignore[override]
        def counted(topic: str, payload: bytes) -> None:
            if "/chunks/" in topic:
                self.came.append(topics.chunk_of(topic)[1])
            handler(topic, payload)

        await super().subscribe(counted, *wanted)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "LONGEST_DELAY_S", 1.0)
    monkeypatch.setattr(transfer, "FIRST_PATIENCE_S", 0.3)
    monkeypatch.setattr(rules, "SHORTEST_PATIENCE_S", 0.1)


def fetcher(link: Link, tmp_path: Path) -> Fetcher:
    return Fetcher(link, Trust(tmp_path / "metadata", b"", [], 1, now_ms), tmp_path / "downloads")


def nothing(present: int, total: int) -> None:
    assert 0 <= present <= total == len(CHUNKS)


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "downloads").iterdir())


WHOLE = [f"{ARTIFACT.digest.hex()}.tflite"]


@every
def test_an_artifact_comes_whole_with_its_progress_and_each_chunk_once(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as cloud, site.link("edge-1") as plain:
            edge, told = Counter(plain), list[int]()
            await Publisher(cloud).publish()
            path = await fetcher(edge, tmp_path).artifact(ARTIFACT, lambda present, _: told.append(present))
            assert path.read_bytes() == DATA
            assert told == sorted(told)
            assert told[-1] == len(CHUNKS)
            assert sorted(edge.came) == list(range(len(CHUNKS)))
            assert edge._handlers == {}, "it gives up every subscription"
            assert names(tmp_path) == WHOLE

    scenario(kind, tmp_path, test)


@every
def test_lost_corrupted_and_cleared_chunks_are_asked_for_again(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as cloud, site.link("edge-1") as edge:
            publisher = Publisher(cloud)
            await publisher.repair()
            lost, corrupted, cleared = {3, 17, 40}, {0, 5}, {8}
            await publisher.publish(set(range(len(CHUNKS))) - lost)
            await publisher.publish(corrupted, b"x" * CHUNK)
            await publisher.publish(cleared, b"")
            path = await fetcher(edge, tmp_path).artifact(ARTIFACT, nothing)
            assert path.read_bytes() == DATA
            assert {index for request in publisher.requests for index in request} == lost | corrupted | cleared

    scenario(kind, tmp_path, test)


@every
def test_a_broker_killed_in_the_middle_costs_only_time(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.link("cloud") as cloud, site.link("edge-1") as edge:
            publisher, halfway = Publisher(cloud), asyncio.Event()
            half = len(CHUNKS) // 2

            def progress(present: int, _: int) -> None:
                if present >= half:
                    halfway.set()

            async with site.broker():
                await publisher.publish(range(half))
                fetching = asyncio.create_task(fetcher(edge, tmp_path).artifact(ARTIFACT, progress))
                await halfway.wait()
            async with site.broker():
                await cloud.connected.wait()
                await publisher.publish(range(half, len(CHUNKS)))
                assert (await fetching).read_bytes() == DATA

    scenario(kind, tmp_path, test)


@every
def test_what_was_fetched_before_a_stop_is_not_fetched_again(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as cloud, site.link("edge-1") as plain:
            publisher, halfway = Publisher(cloud), asyncio.Event()
            half = len(CHUNKS) // 2

            def progress(present: int, _: int) -> None:
                if present == half:
                    halfway.set()

            await publisher.publish(range(half))
            first = asyncio.create_task(fetcher(plain, tmp_path).artifact(ARTIFACT, progress))
            await halfway.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert plain._handlers == {}
            await publisher.publish(range(half, len(CHUNKS)))
            edge = Counter(plain)
            path = await fetcher(edge, tmp_path).artifact(ARTIFACT, nothing)
            assert path.read_bytes() == DATA
            assert sorted(edge.came) == list(range(half, len(CHUNKS)))

    scenario(kind, tmp_path, test)


def test_what_is_here_whole_is_not_fetched_and_what_belongs_to_others_is_removed(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        (tmp_path / "downloads").mkdir()
        (tmp_path / "downloads" / WHOLE[0]).write_bytes(DATA)
        for left in ("00ff.part", "00ff.tflite", f".{WHOLE[0]}.unpacking"):
            (tmp_path / "downloads" / left).touch()
        async with site.link("edge-1") as edge:
            told = list[tuple[int, int]]()
            await fetcher(edge, tmp_path).artifact(ARTIFACT, lambda *progress: told.append(progress))
            assert told == [(len(CHUNKS), len(CHUNKS))]
            assert names(tmp_path) == WHOLE

    scenario("amqtt", tmp_path, test)


def test_a_file_that_has_decayed_is_fetched_again(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        (tmp_path / "downloads").mkdir()
        (tmp_path / "downloads" / WHOLE[0]).write_bytes(DATA[:-1] + b"?")
        async with site.broker(), site.link("cloud") as cloud, site.link("edge-1") as edge:
            await Publisher(cloud).publish()
            assert (await fetcher(edge, tmp_path).artifact(ARTIFACT, nothing)).read_bytes() == DATA

    scenario("amqtt", tmp_path, test)


def test_chunks_that_never_come_end_it_and_what_came_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PATIENCE_S", 0.001)
    monkeypatch.setattr(rules, "LONGEST_PATIENCE_S", 0.01)
    monkeypatch.setattr(rules, "SHORTEST_PATIENCE_S", 0.001)

    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as cloud, site.link("edge-1") as edge:
            publisher = Publisher(cloud)
            await publisher.publish(range(1, len(CHUNKS)))
            with pytest.raises(NotDelivered, match="1 chunks have not come"):
                await fetcher(edge, tmp_path).artifact(ARTIFACT, nothing)
            await publisher.publish([0])
            assert (await fetcher(edge, tmp_path).artifact(ARTIFACT, nothing)).read_bytes() == DATA

    scenario("amqtt", tmp_path, test)


def test_an_endless_flood_of_wrong_chunks_ends_it_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PATIENCE_S", 0.001)
    monkeypatch.setattr(rules, "LONGEST_PATIENCE_S", 0.01)
    monkeypatch.setattr(rules, "SHORTEST_PATIENCE_S", 0.001)

    async def test(site: Site) -> None:
        async with site.broker(), site.link("rogue") as rogue, site.link("edge-1") as edge:
            publisher = Publisher(rogue)

            async def flood() -> None:
                while True:
                    await publisher.publish([0, 1, 2], b"x" * CHUNK)

            flooding = asyncio.create_task(flood())
            with pytest.raises(NotDelivered):
                await fetcher(edge, tmp_path).artifact(ARTIFACT, nothing)
            flooding.cancel()
            assert not (tmp_path / "downloads" / WHOLE[0]).exists()

    scenario("amqtt", tmp_path, test)


def test_what_can_never_be_had_is_rejected_without_a_broker(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        endless = Artifact(digest=ARTIFACT.digest, size=2**40, compression=COMPRESSION_ZSTD, chunks=ARTIFACT.chunks)
        async with site.link("edge-1") as edge:
            with pytest.raises(Rejected):
                await fetcher(edge, tmp_path).artifact(endless, nothing)

    scenario("amqtt", tmp_path, test)


def signed(payload: bytes = MANIFEST) -> bytes:
    return envelope.sign(envelope.MANIFEST, payload, KEY).SerializeToString()


@every
def test_a_manifest_comes_whether_it_is_there_before_or_after_it_was_asked_for(kind: Sort, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as cloud, site.link("edge-1") as edge:
            await cloud.connected.wait()
            asking = asyncio.create_task(fetcher(edge, tmp_path).manifest(DIGEST))
            await asyncio.sleep(0.1)
            await cloud.publish(topics.manifest(DIGEST), signed(), retain=True)
            assert await asking == MANIFEST
            assert await fetcher(edge, tmp_path).manifest(DIGEST) == MANIFEST
            assert edge._handlers == {}

    scenario(kind, tmp_path, test)


FORGERIES = {
    "cleared": b"",
    "no envelope": b"\xff" * 100,
    "a manifest without an envelope": MANIFEST,
    "another manifest, well signed": signed(Manifest(model="digits", version=2).SerializeToString()),
    "one bit flipped": bytes([*signed()[:50], signed()[50] ^ 1, *signed()[51:]]),
    "too large": signed(bytes(topics.MAX_MANIFEST_BYTES + 1)),
}


def test_a_forged_manifest_is_never_taken_and_the_right_one_still_is(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("rogue") as rogue, site.link("edge-1") as edge:
            await rogue.connected.wait()
            asking = asyncio.create_task(fetcher(edge, tmp_path).manifest(DIGEST))
            for forged in FORGERIES.values():
                await rogue.publish(topics.manifest(DIGEST), forged, retain=True)
            await asyncio.sleep(0.2)
            assert not asking.done()
            await rogue.publish(topics.manifest(DIGEST), signed())
            assert await asking == MANIFEST

    scenario("amqtt", tmp_path, test)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_forgery_is_a_manifest(tmp_path: Path, forgery: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "MANIFEST_PATIENCE_S", 0.2)

    class Rogue(Link):
        """Answers each subscription with the forgery."""

        async def subscribe(self, handler: Callable[[str, bytes], None], *wanted: str) -> None:  # type: ignore[override]
            for topic in wanted:
                handler(topic, FORGERIES[forgery])

    async def test(site: Site) -> None:
        link = Rogue(site.address, "edge-1")
        link.connected.set()
        digest = hashlib.sha256(bytes(topics.MAX_MANIFEST_BYTES + 1)).digest() if forgery == "too large" else DIGEST
        with pytest.raises(NotDelivered):
            await fetcher(link, tmp_path).manifest(digest)

    scenario("amqtt", tmp_path, test)
