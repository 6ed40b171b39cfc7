"""The publisher beside large artifacts, over connections that are slow or end, and brokers that keep or forget."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cloud.delivery import mqtt, rules
from cloud.delivery.outgoing import WINDOW
from cloud.foundation.broker import Kind
from protos import topics
from protos.kit.link import Address
from protos.v1.delivery_pb2 import RepairRequest
from simulators.relay import Faults, Relay, is_chunk
from tests.integration.publisher_kit import (
    PATIENCE_S,
    Cloud,
    Observer,
    chunk_topics,
    everything,
    observing,
    play,
    publishing,
)
from tests.mosquitto import Mosquitto, needs_mosquitto
from tests.sites import both

LARGE_BYTES = 6_000_000
SLOW = 3_000_000.0  # bytes a second: a large artifact takes two


async def told(observer: Observer, *devices: str) -> None:
    await observer.until(lambda: {topics.desired(device) for device in devices} <= set(observer.topics()))


def chunks_published(relay: Relay) -> int:
    return sum(is_chunk(topic) for topic, _ in relay.traffic.publications)


@both
def test_while_a_large_artifact_is_published_orders_and_small_bundles_get_out(kind: Kind, tmp_path: Path) -> None:
    async def scenario(broker: Address, cloud: Cloud) -> None:
        former, large, small = cloud.register(), cloud.register(LARGE_BYTES), cloud.register()
        cloud.desire("edge-1", former)
        relay = Relay(broker)
        async with relay.serving() as slow, observing(broker) as observer, publishing(slow, cloud):
            await told(observer, "edge-1")
            relay.faults.bytes_per_s = SLOW
            for device in ("edge-2", "edge-3"):
                cloud.desire(device, large)
            await observer.until(lambda: any(topic in observer.topics() for topic in chunk_topics(large)))
            cloud.desire("edge-2", former)  # an order to go back
            cloud.desire("edge-4", small)
            await told(observer, "edge-2", "edge-4")
            assert not set(chunk_topics(large)) <= set(observer.topics())
            assert observer.last(topics.desired("edge-2")) == b"edge-2:2"
            assert set(everything(small)) <= set(observer.topics())
            relay.faults.bytes_per_s = 0
            await told(observer, "edge-3")

    play(kind, tmp_path, scenario)


@both
def test_while_lost_chunks_are_sent_again_orders_and_small_bundles_get_out(kind: Kind, tmp_path: Path) -> None:
    async def scenario(broker: Address, cloud: Cloud) -> None:
        large, small = cloud.register(LARGE_BYTES), cloud.register()
        artifact, count = large.parsed().variants[0].artifact.digest, len(chunk_topics(large))
        relay = Relay(broker)
        async with relay.serving() as slow, observing(broker) as observer, publishing(slow, cloud):
            cloud.desire("edge-1", large)
            await told(observer, "edge-1")
            relay.faults.bytes_per_s = SLOW
            missing = ((1 << count) - 1).to_bytes(count // 8 + 1, "little")
            request = RepairRequest(artifact=artifact, missing=missing).SerializeToString()
            await observer.link.publish(topics.repair(artifact), request)
            await observer.until(lambda: any(observer.times(topic) == 2 for topic in chunk_topics(large)))
            cloud.desire("edge-2", small)
            cloud.desire("edge-3", large)
            await told(observer, "edge-2", "edge-3")
            assert min(observer.times(topic) for topic in chunk_topics(large)) == 1
            relay.faults.bytes_per_s = 0
            await observer.until(lambda: all(observer.times(topic) == 2 for topic in chunk_topics(large)))

    play(kind, tmp_path, scenario)


@both
def test_a_broker_that_was_only_out_of_reach_is_sent_no_chunk_again(kind: Kind, tmp_path: Path) -> None:
    async def scenario(broker: Address, cloud: Cloud) -> None:
        version = cloud.register()
        relay = Relay(broker)
        async with relay.serving() as far, publishing(far, cloud):
            for number in range(3):
                async with observing(broker) as observer:
                    cloud.desire(f"edge-{number}", version)
                    await told(observer, f"edge-{number}")
                relay.cut()
        assert chunks_published(relay) == len(chunk_topics(version))

    play(kind, tmp_path, scenario)


@both
def test_of_a_bundle_that_was_half_published_only_the_missing_chunks_follow(kind: Kind, tmp_path: Path) -> None:
    async def scenario(broker: Address, cloud: Cloud) -> None:
        large = cloud.register(LARGE_BYTES)
        relay = Relay(broker, Faults(bytes_per_s=SLOW))
        async with relay.serving() as slow, observing(broker) as observer, publishing(slow, cloud):
            cloud.desire("edge-1", large)
            await observer.until(lambda: sum(map(is_chunk, observer.topics())) > len(chunk_topics(large)) / 2)
            relay.cut()
            relay.faults.bytes_per_s = 0
            await told(observer, "edge-1")
            assert set(everything(large)) <= set(observer.topics())
        # Those that had not been acknowledged go out twice.
        assert chunks_published(relay) <= len(chunk_topics(large)) + WINDOW

    play(kind, tmp_path, scenario)


@needs_mosquitto
@pytest.mark.parametrize("persistent", [True, False])
def test_after_a_restart_of_the_broker_chunks_go_out_again_only_if_it_has_lost_them(
    tmp_path: Path,
    persistent: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    async def scenario() -> None:
        cloud, mosquitto = Cloud(tmp_path), Mosquitto(tmp_path, persistent=persistent)
        version = cloud.register()
        cloud.desire("edge-1", version)
        relay = Relay(mosquitto.address)
        async with mosquitto.running(), AsyncExitStack() as stack:
            far = await stack.enter_async_context(relay.serving())
            await stack.enter_async_context(publishing(far, cloud))
            async with observing(mosquitto.address) as observer:
                await told(observer, "edge-1")
            await mosquitto.stop()
            await mosquitto.start()
            cloud.desire("edge-2", version)
            async with observing(mosquitto.address) as observer:
                await told(observer, "edge-1", "edge-2")
                await observer.until(lambda: set(everything(version)) <= set(observer.topics()))
        assert chunks_published(relay) == len(chunk_topics(version)) * (1 if persistent else 2)

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


@needs_mosquitto
def test_a_broker_restarted_in_the_middle_of_a_publication_is_given_only_what_it_has_not_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        cloud, mosquitto = Cloud(tmp_path), Mosquitto(tmp_path, persistent=True)
        large = cloud.register(LARGE_BYTES)
        relay = Relay(mosquitto.address, Faults(bytes_per_s=SLOW))
        async with mosquitto.running(), relay.serving() as slow, publishing(slow, cloud):
            async with observing(mosquitto.address) as observer:
                cloud.desire("edge-1", large)
                await observer.until(lambda: sum(map(is_chunk, observer.topics())) > len(chunk_topics(large)) / 2)
            await mosquitto.stop()
            relay.faults.bytes_per_s = 0
            await mosquitto.start()
            async with observing(mosquitto.address) as observer:
                await told(observer, "edge-1")
                await observer.until(lambda: set(everything(large)) <= set(observer.topics()))
        assert chunks_published(relay) <= len(chunk_topics(large)) + WINDOW

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


@both
def test_a_publication_that_nobody_needs_any_more_is_ended_and_leaves_nothing_on_the_broker(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eagerly_cleared(monkeypatch)

    async def scenario(broker: Address, cloud: Cloud) -> None:
        large, small = cloud.register(LARGE_BYTES), cloud.register()
        relay = Relay(broker, Faults(bytes_per_s=SLOW))
        async with relay.serving() as slow, observing(broker) as observer, publishing(slow, cloud):
            cloud.desire("edge-1", large)
            await observer.until(lambda: any(map(is_chunk, observer.topics())))
            cloud.desire("edge-1", small)
            manifest = topics.manifest(large.manifest_digest)
            await observer.until(lambda: observer.last(manifest) == b"")
            assert chunks_published(relay) < 2 * len(chunk_topics(large)), "chunks and what clears them"
            async with observing(broker) as late:
                await told(late, "edge-1")
                assert not set(everything(large)) & set(late.topics())

    play(kind, tmp_path, scenario)


@both
def test_what_is_needed_again_while_it_is_cleared_is_whole_when_a_device_is_told(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eagerly_cleared(monkeypatch)

    async def scenario(broker: Address, cloud: Cloud) -> None:
        version = cloud.register(LARGE_BYTES)
        relay = Relay(broker)
        async with relay.serving() as slow, observing(broker) as observer, publishing(slow, cloud):
            cloud.desire("edge-1", version)
            await told(observer, "edge-1")
            relay.faults.bytes_per_s = 3000.0  # what clears a chunk is small
            cloud.commit("edge-1", version)
            await observer.until(lambda: any(observer.last(topic) == b"" for topic in chunk_topics(version)))
            cloud.desire("edge-2", version)
            await asyncio.sleep(0.5)
            relay.faults.bytes_per_s = 0
            await told(observer, "edge-2")
            async with observing(broker) as late:
                await late.until(lambda: set(everything(version)) <= set(late.topics()))

    play(kind, tmp_path, scenario)


def eagerly_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "LINGER_MS", 300)
    monkeypatch.setattr(mqtt, "REVIEW_S", 0.2)
