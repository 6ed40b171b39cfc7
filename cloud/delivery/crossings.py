"""A message that crossed the broker, held against its channel: what it says, and what in it breaks the contract. Pure.

Nothing is verified here: whoever watches has no keys, and only the devices' and the cloud's own checks make trust.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from protos import channels
from protos.channels import Channel, Encoded, Words
from protos.topics import MAX_MQTT_BYTES
from protos.v1.manifest_pb2 import Signed

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Crossing:
    """One message as a subscriber got it."""

    topic: str
    payload: bytes
    qos: int
    """As it was published, unless the subscription's is lower."""
    retained: bool | None
    """Whether it was published to be retained; None: this broker does not tell."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a crossing says."""

    crossing: Crossing
    channel: Channel | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    message: Message | None = None
    """The protobuf message in the payload, taken out of its signed envelope."""
    signers: tuple[str, ...] = ()
    """The keys that are said to have signed it."""
    breaches: tuple[str, ...] = ()
    """What breaks the contract, in words; empty: nothing."""

    @property
    def clears(self) -> bool:
        """Whether it takes what the broker keeps away."""
        return not self.crossing.payload and self.channel is not None and self.channel.cleared


class _Undecodable(Exception):
    """The payload is not what its channel carries."""


def breaches(crossing: Crossing) -> list[str]:
    """How a message breaks its channel's contract, in words; nothing if it obeys."""
    return list(read(crossing).breaches)


def read(crossing: Crossing) -> Reading:
    """What a message says. Never raises: what cannot be read is a breach."""
    found = channels.find(crossing.topic)
    if found is None:
        return Reading(crossing, breaches=("no channel of the contract has this topic",))
    channel, parameters = found
    reading = Reading(crossing, channel, parameters, breaches=tuple(_of_form(crossing, channel)))
    if len(crossing.payload) > MAX_MQTT_BYTES:
        return reading  # nobody takes it: not worth the time to parse it
    try:
        return _with_content(reading, channel)
    except _Undecodable as error:
        return replace(reading, breaches=(*reading.breaches, str(error)))


def _of_form(crossing: Crossing, channel: Channel) -> Iterator[str]:
    if len(crossing.payload) > channel.max_bytes:
        yield f"it has {len(crossing.payload)} bytes, allowed are {channel.max_bytes}"
    if crossing.qos != channel.qos:
        yield f"it was published with QoS {crossing.qos}, the channel's is {channel.qos}"
    if crossing.retained is not None and crossing.retained != channel.retained:
        yield "it is not retained" if channel.retained else "it is retained"


def _with_content(reading: Reading, channel: Channel) -> Reading:
    """The reading with what the payload says. Raises _Undecodable."""
    payload = reading.crossing.payload
    if reading.clears:
        return reading
    if not payload:
        raise _Undecodable("it is empty, and nothing of this channel is ever cleared")
    match channel.payload:
        case Words(words) if payload not in words:
            raise _Undecodable(f"it is none of the words {', '.join(word.decode() for word in words)}")
        case Encoded() as encoded:
            return _with_message(reading, encoded)
    return reading


def _with_message(reading: Reading, encoded: Encoded) -> Reading:
    payload = reading.crossing.payload
    data, signers = _unwrapped(payload) if encoded.purpose else (payload, ())
    message = _parsed(data, encoded.message)
    wrong = _contradictions(message, data, encoded, reading.parameters)
    return replace(reading, message=message, signers=signers, breaches=(*reading.breaches, *wrong))


def _unwrapped(payload: bytes) -> tuple[bytes, tuple[str, ...]]:
    signed = _parsed(payload, Signed)
    if not signed.signatures:
        raise _Undecodable("it is no Signed message, or nobody signed it")
    return signed.payload, tuple(signature.key_id for signature in signed.signatures)


def _parsed(data: bytes, kind: type[M]) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise _Undecodable(f"it is no {kind.DESCRIPTOR.name}") from error


def _contradictions(message: Message, data: bytes, encoded: Encoded, parameters: Mapping[str, str]) -> Iterator[str]:
    """Where the message says something else than its topic."""
    for name in encoded.repeats:
        said = getattr(message, name)
        said = said.hex() if isinstance(said, bytes) else said
        if said != parameters[name]:
            yield f"it names {name} {said!r}, its topic another"
    if encoded.digest and hashlib.sha256(data).hexdigest() != parameters[encoded.digest]:
        yield "its topic is not its digest"
