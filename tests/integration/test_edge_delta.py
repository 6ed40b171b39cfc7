"""What is on a device already does not travel again: patches and chunks, over real brokers, with faults."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.foundation.broker import Kind
from cloud.foundation.database import Database
from cloud.registry.blobs import Blobs
from cloud.registry.entities import artifacts
from cloud.registry.service import Registry
from edge.delivery import transfer
from edge.delivery.mqtt import Fetcher
from edge.delivery.trust import Trust
from edge.foundation.clock import now_ms
from protos import topics
from protos.kit import envelope
from protos.kit.link import Link
from protos.kit.patches import bytes_of
from protos.v1.manifest_pb2 import Artifact, Manifest, Variant
from tests.sites import Site, both, scenario

KEY = Ed25519PrivateKey.generate()
OLD = os.urandom(400_000)
NEW = (np.frombuffer(OLD, np.uint8) + np.random.default_rng(1).integers(0, 2, len(OLD), np.uint8)).tobytes()
"""Half of the values a step higher: its patch has a chunk, its whole file seven."""

Fault = Callable[[bytes], bytes]


class Cloud:
    """A registry, and a publisher by hand that can lose and spoil the chunks of patches."""

    def __init__(self, folder: Path) -> None:
        database = Database(f"sqlite:///{folder}/cloud.db")
        database.create()
        self.registry = Registry(database, Blobs(folder / "blobs"), lambda what, data: envelope.sign(what, data, KEY))

    def register(self, *versions: bytes) -> Artifact:
        """Register these files one after the other; the last one's artifact."""
        for data in versions:
            draft = Manifest(model="digits", variants=[Variant(name="int8")])
            last = self.registry.register(draft, {"int8": data}, 1).parsed().variants[0].artifact
        return last

    async def publish(self, link: Link, artifact: Artifact, of_patch: Fault = bytes) -> None:
        """All chunks; of_patch: what is published for a patch's, nothing for empty bytes."""
        await link.connected.wait()
        for each in artifacts(Manifest(variants=[Variant(artifact=artifact)])):
            fault = bytes if each.digest == artifact.digest else of_patch
            for index in range(len(each.chunks)):
                if data := fault(self.registry.chunk(each.digest, index)):
                    await link.publish(topics.chunk(each.digest, index), data, retain=True)


class CountedLink(Link):
    """A device's link that counts the bytes of chunks that came, by their artifact, and how often each came."""

    def __init__(self, link: Link) -> None:
        self.__dict__ = link.__dict__
        self.came: dict[bytes, int] = {}
        self.times: Counter[tuple[bytes, int]] = Counter()

    async def subscribe(self, handler: Callable[[str, bytes], None], *wanted: str) -> None:  # type: ignore[override]
        def counted(topic: str, payload: bytes) -> None:
            digest, index = topics.chunk_of(topic)
            self.came[digest] = self.came.get(digest, 0) + len(payload)
            self.times[digest, index] += 1
            handler(topic, payload)

        await super().subscribe(counted, *wanted)


class Device:
    """Its folder of downloads, and the files it holds."""

    def __init__(self, link: Link, folder: Path, *files: bytes) -> None:
        self.link = CountedLink(link)
        self.told: list[tuple[int, int]] = []
        self._news = asyncio.Event()
        self.downloads = folder / "downloads"
        self._fetcher = Fetcher(self.link, Trust(folder / "metadata", b"", [], 1, now_ms), self.downloads)
        self.held: dict[bytes, Path] = {}
        for data in files:
            digest = hashlib.sha256(data).digest()
            self.held[digest] = folder / f"model-{digest.hex()}"
            self.held[digest].write_bytes(data)

    async def fetch(self, artifact: Artifact) -> bytes:
        """The file, which is all that is left among the downloads."""
        path = await self._fetcher.artifact(artifact, self._tell, self.held)
        assert list(self.downloads.iterdir()) == [path]
        assert self.link._handlers == {}
        return path.read_bytes()

    async def until(self, present: int) -> None:
        while not self.told or self.told[-1][0] < present:
            self._news.clear()
            await self._news.wait()

    def _tell(self, present: int, total: int) -> None:
        self.told.append((present, total))
        self._news.set()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PATIENCE_S", 0.2)


@both
def test_a_device_that_holds_the_version_before_fetches_only_the_patch(kind: Kind, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, OLD)
            artifact = cloud.register(OLD, NEW)
            await cloud.publish(publisher, artifact)
            assert await device.fetch(artifact) == NEW
            (patch,) = artifact.patches
            assert device.link.came == {patch.digest: bytes_of(patch)}
            assert bytes_of(patch) < bytes_of(artifact) / 3
            assert device.told[-1] == (len(patch.chunks), len(patch.chunks))

    scenario(kind, tmp_path, test)


@pytest.fixture(scope="module")
def fine_tuned() -> dict[str, tuple[bytes, bytes]]:
    """Files before and after more training of the last layer alone, by variant, as the product makes them."""
    # TensorFlow is slow to import: not before it is needed.
    from benchmarks.delta import files, further, trained  # noqa: PLC0415
    from cloud.training import datasets  # noqa: PLC0415
    from cloud.training.entities import Options  # noqa: PLC0415

    digits = datasets.load("digits")
    network = trained(digits, Options(), epochs=2).network
    old, new = files(network, digits), files(further(digits, network, frozen=True), digits)
    return {variant: (old[variant], new[variant]) for variant in old}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["int8", "float32"])
def test_a_fine_tuned_last_layer_costs_at_most_15_percent_of_the_whole(
    tmp_path: Path, fine_tuned: dict[str, tuple[bytes, bytes]], variant: str
) -> None:
    old, new = fine_tuned[variant]
    assert old != new

    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, old)
            artifact = cloud.register(old, new)
            await cloud.publish(publisher, artifact)
            assert await device.fetch(artifact) == new
            assert sum(device.link.came.values()) <= 0.15 * bytes_of(artifact)

    scenario("amqtt", tmp_path, test)


def test_a_device_that_is_some_versions_behind_uses_its_own_patch(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, OLD)
            between = bytes([*OLD[:100], 7, *OLD[101:]])
            artifact = cloud.register(OLD, between, NEW)
            await cloud.publish(publisher, artifact)
            assert await device.fetch(artifact) == NEW
            own = next(patch for patch in artifact.patches if patch.base == hashlib.sha256(OLD).digest())
            assert list(device.link.came) == [own.digest]

    scenario("amqtt", tmp_path, test)


@pytest.mark.parametrize("holds", [(), (os.urandom(1000),)])
def test_a_device_without_a_base_fetches_the_whole(tmp_path: Path, holds: tuple[bytes, ...]) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, *holds)
            artifact = cloud.register(OLD, NEW)
            await cloud.publish(publisher, artifact)
            assert await device.fetch(artifact) == NEW
            assert device.link.came == {artifact.digest: bytes_of(artifact)}

    scenario("amqtt", tmp_path, test)


FAULTS: dict[str, Fault] = {"lost": lambda _: b"", "spoilt on its way": lambda data: bytes(len(data))}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_patch_that_does_not_come_costs_time_but_not_the_model(tmp_path: Path, fault: str) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, OLD)
            artifact = cloud.register(OLD, NEW)
            await cloud.publish(publisher, artifact, FAULTS[fault])
            assert await device.fetch(artifact) == NEW
            assert device.link.came[artifact.digest] == bytes_of(artifact)

    scenario("amqtt", tmp_path, test)


def test_a_signed_patch_that_makes_another_file_costs_only_itself(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, other = Cloud(tmp_path), os.urandom(len(OLD))
            artifact = cloud.register(OLD, NEW)
            artifact.patches[0].base = hashlib.sha256(other).digest()
            device = Device(link, tmp_path, other)
            await cloud.publish(publisher, artifact)
            assert await device.fetch(artifact) == NEW
            assert device.link.came == {each.digest: bytes_of(each) for each in (artifact.patches[0], artifact)}

    scenario("amqtt", tmp_path, test)


def test_a_malformed_patch_is_no_obstacle(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, OLD)
            artifact = cloud.register(OLD, NEW)
            await cloud.publish(publisher, artifact)
            artifact.patches[0].digest = b"short"
            assert await device.fetch(artifact) == NEW
            assert list(device.link.came) == [artifact.digest]

    scenario("amqtt", tmp_path, test)


@both
def test_a_stop_in_the_middle_of_a_patch_costs_no_chunk_of_it_twice(kind: Kind, tmp_path: Path) -> None:
    changed = bytes(np.frombuffer(OLD, np.uint8) + np.random.default_rng(2).integers(0, 12, len(OLD), np.uint8))

    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, OLD)
            artifact = cloud.register(OLD, changed)
            (patch,) = artifact.patches
            assert len(patch.chunks) > 1
            on_disk = len(patch.chunks) - 1
            last = cloud.registry.chunk(patch.digest, on_disk)
            await cloud.publish(publisher, artifact, lambda data: b"" if data == last else data)
            fetching = asyncio.create_task(device.fetch(artifact))
            await device.until(on_disk)
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
            await cloud.publish(publisher, artifact)
            assert await device.fetch(artifact) == changed
            # The last one may come twice: retained, and live, if the broker still passes it on while it is asked for.
            assert [device.link.times[patch.digest, index] for index in range(on_disk)] == [1] * on_disk
            assert set(device.link.came) == {patch.digest}

    scenario(kind, tmp_path, test)


def test_a_file_that_another_version_had_too_is_not_fetched_at_all(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.link("edge-1") as link:  # without a broker
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, NEW)
            artifact = cloud.register(NEW)
            assert await device.fetch(artifact) == NEW
            assert device.told == [(len(artifact.chunks), len(artifact.chunks))]

    scenario("amqtt", tmp_path, test)


def test_a_held_file_that_has_decayed_meanwhile_is_not_the_new_one(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, NEW)
            artifact = cloud.register(NEW)
            await cloud.publish(publisher, artifact)
            device.held[artifact.digest].write_bytes(OLD)
            assert await device.fetch(artifact) == NEW

    scenario("amqtt", tmp_path, test)


HALF = 5 * topics.MAX_CHUNK_BYTES // 2
"""Into the third chunk."""


def test_chunks_of_an_abandoned_download_are_not_fetched_again(tmp_path: Path) -> None:
    abandoned = OLD[:HALF] + os.urandom(len(OLD) - HALF)

    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path)
            wanted, other = cloud.register(OLD), cloud.register(abandoned)
            await cloud.publish(publisher, wanted)
            device.downloads.joinpath(f"{other.digest.hex()}.part").write_bytes(abandoned)
            assert await device.fetch(wanted) == OLD
            assert device.link.came == {wanted.digest: len(OLD) - 2 * topics.MAX_CHUNK_BYTES}

    scenario("amqtt", tmp_path, test)


def test_pieces_of_the_model_in_use_are_not_fetched_again(tmp_path: Path) -> None:
    used = os.urandom(HALF) + OLD[HALF:]

    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path, used)
            wanted = cloud.register(OLD)
            await cloud.publish(publisher, wanted)
            assert await device.fetch(wanted) == OLD
            assert device.link.came == {wanted.digest: 3 * topics.MAX_CHUNK_BYTES}

    scenario("amqtt", tmp_path, test)


def test_an_abandoned_download_goes_where_there_is_no_room_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(site: Site) -> None:
        async with site.broker(), site.link("cloud") as publisher, site.link("edge-1") as link:
            cloud, device = Cloud(tmp_path), Device(link, tmp_path)
            wanted = cloud.register(OLD)
            await cloud.publish(publisher, wanted)
            abandoned = device.downloads / f"{bytes(32).hex()}.part"
            abandoned.write_bytes(OLD)

            def full(*_: int) -> None:
                if abandoned.exists():
                    raise OSError(errno.ENOSPC, "No space left on device")

            monkeypatch.setattr(os, "posix_fallocate", full)
            assert await device.fetch(wanted) == OLD

    scenario("amqtt", tmp_path, test)
