"""The table of channels: every topic has exactly one row, and the rows can live on every common broker."""

from __future__ import annotations

import pytest

from protos import channels, topics
from protos.channels import CHANNELS, Channel, Encoded, Role

DIGEST = bytes(range(32))
BUILT = {
    "metadata": topics.metadata("timestamp.json"),
    "metadata_index": topics.METADATA_INDEX,
    "manifest": topics.manifest(DIGEST),
    "chunk": topics.chunk(DIGEST, 16383),
    "repair": topics.repair(DIGEST),
    "desired": topics.desired("edge-1"),
    "reported": topics.reported("edge-1"),
    "presence": topics.presence("edge-1"),
}

each = pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)


@each
def test_the_topic_that_the_code_builds_is_found_as_its_channel_and_as_no_other(channel: Channel) -> None:
    assert [row.name for row in CHANNELS if row.parameters(BUILT[channel.name]) is not None] == [channel.name]
    assert channels.find(BUILT[channel.name]) == (channel, channel.parameters(BUILT[channel.name]))


def test_a_topic_tells_its_parameters() -> None:
    found = channels.find(topics.chunk(DIGEST, 12))
    assert found
    assert found[1] == {"artifact": DIGEST.hex(), "index": "12"}


@pytest.mark.parametrize(
    "topic",
    [
        "",
        topics.ROOT,
        "other/v1/devices/edge-1/reported",
        topics.REPORTED.format(device="Edge_1"),
        topics.reported("edge-1") + "/more",
        topics.MANIFEST.format(manifest="nothex"),
        topics.CHUNK.format(artifact=DIGEST.hex(), index="one"),
        topics.all_of(topics.PRESENCE),
        topics.metadata("snapshot.json"),
        topics.metadata("index.json"),
    ],
)
def test_any_other_topic_is_none_of_the_contract(topic: str) -> None:
    assert channels.find(topic) is None


@each
def test_a_channel_fits_every_common_broker(channel: Channel) -> None:
    assert channel.address.count("/") <= 7
    assert channel.qos <= 1
    assert 0 < channel.max_bytes <= topics.MAX_MQTT_BYTES


@each
def test_only_what_is_retained_can_be_cleared(channel: Channel) -> None:
    assert channel.retained or not channel.cleared


@each
def test_what_the_broker_says_for_a_device_the_device_may_say_itself(channel: Channel) -> None:
    assert Role.BROKER not in channel.senders or Role.DEVICE in channel.senders


@each
def test_what_a_message_repeats_are_parameters_of_the_topic_and_fields_of_the_message(channel: Channel) -> None:
    if isinstance(channel.payload, Encoded):
        parameters = {*topics.matcher(channel.address).groupindex}
        assert {*channel.payload.repeats} <= parameters & {*channel.payload.message.DESCRIPTOR.fields_by_name}
        assert {channel.payload.digest} <= parameters | {""}
