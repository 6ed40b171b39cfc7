"""The publisher over real brokers: what a device needs is there, once and in order, and goes when nobody needs it."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cloud.delivery import mqtt, rules
from cloud.foundation.broker import Kind, embedded_broker
from protos import topics
from protos.kit.link import Address
from protos.v1.delivery_pb2 import RepairRequest
from simulators.ports import free_port
from tests.integration.publisher_kit import (
    PATIENCE_S,
    Cloud,
    chunk_topics,
    everything,
    noted,
    observing,
    play,
    publishing,
)
from tests.sites import both


@both
def test_manifest_and_every_chunk_cross_the_broker_before_the_desired_state(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        cloud.desire("edge-1", version)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: topics.desired("edge-1") in observer.topics())
            await noted(cloud)
        assert sorted(observer.topics()[:-1]) == sorted(everything(version))
        assert observer.last(topics.desired("edge-1")) == b"edge-1:1"
        assert observer.last(topics.manifest(version.manifest_digest)) == version.signed
        digest = version.parsed().variants[0].artifact.digest
        for index, topic in enumerate(chunk_topics(version)):
            assert observer.last(topic) == cloud.registry.chunk(digest, index)

    play(kind, tmp_path, scenario)


@both
def test_a_device_that_comes_later_finds_it_all_retained(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        cloud.desire("edge-1", version)
        async with publishing(address, cloud):
            async with observing(address) as early:
                await early.until(lambda: topics.desired("edge-1") in early.topics())
            async with observing(address) as late:
                await late.until(lambda: set(late.topics()) >= {*everything(version), topics.desired("edge-1")})

    play(kind, tmp_path, scenario)


@both
def test_for_many_devices_each_chunk_crosses_once(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        async with observing(address) as observer, publishing(address, cloud):
            for wave in range(3):
                names = [f"edge-{wave}-{number}" for number in range(20)]
                for name in names:
                    cloud.desire(name, version)
                await observer.until(lambda: {topics.desired(name) for name in names} <= set(observer.topics()))  # noqa: B023
        assert [observer.times(topic) for topic in chunk_topics(version)] == [1] * len(chunk_topics(version))

    play(kind, tmp_path, scenario)


@both
def test_a_newer_generation_replaces_the_older_one(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        one, two = cloud.register(), cloud.register()
        async with observing(address) as observer, publishing(address, cloud):
            cloud.desire("edge-1", one)
            await observer.until(lambda: observer.last(topics.desired("edge-1")) == b"edge-1:1")
            cloud.desire("edge-1", two)
            await observer.until(lambda: observer.last(topics.desired("edge-1")) == b"edge-1:2")
            assert set(observer.topics()) >= set(everything(two))

    play(kind, tmp_path, scenario)


@both
def test_when_every_device_has_answered_chunks_and_manifest_are_cleared(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LINGER_MS", 300)
    monkeypatch.setattr(mqtt, "REVIEW_S", 0.2)

    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        for device in ("edge-1", "edge-2"):
            cloud.desire(device, version)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: {topics.desired("edge-1"), topics.desired("edge-2")} <= set(observer.topics()))
            cloud.commit("edge-1", version)
            await asyncio.sleep(1)
            assert not any(observer.last(topic) == b"" for topic in everything(version))
            cloud.commit("edge-2", version)
            await observer.until(lambda: all(observer.last(topic) == b"" for topic in everything(version)))
            async with observing(address) as late:
                await late.until(lambda: topics.desired("edge-2") in late.topics())
                assert not set(late.topics()) & set(everything(version))

    play(kind, tmp_path, scenario)


@both
def test_what_an_earlier_run_left_on_the_broker_is_cleared_by_the_next(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LINGER_MS", 300)
    monkeypatch.setattr(mqtt, "REVIEW_S", 0.2)

    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        cloud.desire("edge-1", version)
        async with observing(address) as observer:
            async with publishing(address, cloud):
                await observer.until(lambda: topics.desired("edge-1") in observer.topics())
            cloud.commit("edge-1", version)
            async with publishing(address, cloud):
                await observer.until(lambda: all(observer.last(topic) == b"" for topic in everything(version)))

    play(kind, tmp_path, scenario)


@both
def test_a_broker_that_comes_back_empty_is_given_everything_again(kind: Kind, tmp_path: Path) -> None:
    async def scenario() -> None:
        cloud, port = Cloud(tmp_path), free_port()
        done, waiting = cloud.register(), cloud.register()
        cloud.desire("edge-1", done)
        cloud.desire("edge-2", waiting)
        cloud.commit("edge-1", done)
        async with AsyncExitStack() as stack:
            async with embedded_broker(kind, "127.0.0.1", port, tmp_path) as address:
                await stack.enter_async_context(publishing(address, cloud))
                async with observing(address) as observer:
                    await observer.until(lambda: topics.desired("edge-2") in observer.topics())
            async with embedded_broker(kind, "127.0.0.1", port, tmp_path), observing(address) as observer:
                await observer.until(lambda: topics.desired("edge-2") in observer.topics())
                assert set(observer.topics()) >= set(everything(waiting))
                assert not set(observer.topics()) & set(everything(done))

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


@both
def test_a_lost_chunk_that_many_devices_ask_for_is_sent_again_once_and_retained(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        artifact = version.parsed().variants[0].artifact.digest
        cloud.desire("edge-1", version)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: topics.desired("edge-1") in observer.topics())
            lost = [topics.chunk(artifact, index) for index in (1, 3)]
            for topic in lost:
                await observer.link.publish(topic, b"", retain=True)
            for missing in (b"\x02", b"\x08", b"\x0a", b"\x0a"):
                request = RepairRequest(artifact=artifact, missing=missing).SerializeToString()
                await observer.link.publish(topics.repair(artifact), request)
            await observer.until(lambda: all(observer.last(topic) for topic in lost))
            assert [observer.times(topic) for topic in chunk_topics(version)] == [1, 3, 1, 3, 1]  # said, lost, repaired
            async with observing(address) as late:
                await late.until(lambda: set(late.topics()) >= set(chunk_topics(version)))

    play(kind, tmp_path, scenario)


@both
def test_requests_that_make_no_sense_are_ignored_and_the_next_good_one_is_answered(kind: Kind, tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        version = cloud.register()
        artifact = version.parsed().variants[0].artifact.digest
        cloud.desire("edge-1", version)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: topics.desired("edge-1") in observer.topics())
            good = RepairRequest(artifact=artifact, missing=b"\x01").SerializeToString()
            nonsense = [
                (topics.repair(artifact), b"\xff\xff"),
                (topics.repair(artifact), bytes(100_000)),
                (topics.repair(artifact), RepairRequest(artifact=artifact, missing=b"\xff" * 1000).SerializeToString()),
                (topics.repair(bytes(32)), RepairRequest(artifact=bytes(32), missing=b"\1").SerializeToString()),
                (f"{topics.ROOT}/artifacts/nothex/repair", good),
                (f"{topics.ROOT}/manifests/nothex", b"x"),
                (topics.manifest(bytes(32)), b"not a manifest of ours"),
            ]
            for topic, payload in nonsense:
                await observer.link.publish(topic, payload)
            await observer.link.publish(topics.repair(artifact), good)
            await observer.until(lambda: observer.times(topics.chunk(artifact, 0)) == 2)
            assert sum(observer.times(topic) for topic in chunk_topics(version)) == len(chunk_topics(version)) + 1

    play(kind, tmp_path, scenario)


def test_a_model_whose_file_is_gone_holds_up_no_other(tmp_path: Path) -> None:
    async def scenario(address: Address, cloud: Cloud) -> None:
        broken = cloud.register()
        shutil.rmtree(tmp_path / "blobs")
        whole = cloud.register()
        cloud.desire("edge-1", broken)
        cloud.desire("edge-2", whole)
        async with observing(address) as observer, publishing(address, cloud):
            await observer.until(lambda: topics.desired("edge-2") in observer.topics())
            assert topics.desired("edge-1") not in observer.topics()

    play("amqtt", tmp_path, scenario)
