"""What the benchmark `delivery` counts of the cloud's bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fan_out.tap import Packets, kind_of
from protos import topics

DIGEST = bytes(32)
SAID = {
    topics.chunk(DIGEST, 0): bytes(40_000),
    topics.chunk(DIGEST, 1): b"short",
    topics.manifest(DIGEST): bytes(300),
    topics.desired("edge-1"): b"",
}


def packets() -> list[bytes]:
    """A PUBLISH packet with QoS 1, retained, for each message (MQTT 3.1.1, 3.3)."""
    return [_packet(topic.encode(), payload) for topic, payload in SAID.items()]


def _packet(topic: bytes, payload: bytes) -> bytes:
    content = len(topic).to_bytes(2, "big") + topic + b"\x00\x01" + payload
    length, digits = len(content), bytearray()
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return b"\x33" + bytes([*digits, length]) + content


def test_a_topic_tells_what_a_message_is() -> None:
    assert [kind_of(topic) for topic in SAID] == ["chunks", "chunks", "manifests", "desired"]


@given(st.lists(st.integers(1, 20_000), max_size=20))
def test_every_byte_is_counted_once_however_the_stream_is_cut(cuts: list[int]) -> None:
    ping = b"\xc0\x00"
    stream = ping + b"".join(packets()) + ping
    counted = Packets()
    for size in cuts:
        counted.feed(stream[:size])
        stream = stream[size:]
    counted.feed(stream)
    sizes = [len(packet) for packet in packets()]
    expected = {"chunks": sizes[0] + sizes[1], "manifests": sizes[2], "desired": sizes[3], "control": 2 * len(ping)}
    assert counted.bytes == expected
