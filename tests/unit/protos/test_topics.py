"""Topics: what is put together is taken apart again, and names cannot break out of their place."""

from __future__ import annotations

import pytest

from protos import topics

DIGEST = bytes(range(32))


def test_every_topic_has_at_most_seven_slashes() -> None:
    built = [
        topics.manifest(DIGEST),
        topics.chunk(DIGEST, 16383),
        topics.repair(DIGEST),
        topics.desired("edge-1"),
        topics.reported("edge-1"),
        topics.presence("edge-1"),
    ]
    assert max(topic.count("/") for topic in built) <= 7


def test_a_chunk_topic_tells_its_artifact_and_index() -> None:
    assert topics.chunk_of(topics.chunk(DIGEST, 12)) == (DIGEST, 12)


def test_a_repair_topic_tells_its_artifact() -> None:
    assert topics.artifact_of(topics.repair(DIGEST)) == DIGEST


@pytest.mark.parametrize("topic", [topics.reported("edge-1"), topics.presence("edge-1"), topics.desired("edge-1")])
def test_a_device_topic_tells_its_device(topic: str) -> None:
    assert topics.device_of(topic) == "edge-1"


@pytest.mark.parametrize("topic", ["", "a/b", topics.manifest(DIGEST), "littoral/v1/devices/+/reported"])
def test_other_topics_are_refused_by_device_of(topic: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        topics.device_of(topic)


@pytest.mark.parametrize("name", ["", "A", "a/b", "a+", "#", "-a", "a-", "a" * 64, "ä"])
def test_a_name_that_could_break_a_topic_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        topics.checked_name(name, "device id")
