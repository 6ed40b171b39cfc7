"""What may cross the broker: one row for each kind of topic. `docs/asyncapi.yaml` is this table, for others to read.

A new kind of message is a template in `protos.topics` and a row here; the end-to-end run of the tests holds the table
to what really crosses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import Message

from protos import topics
from protos.kit import envelope
from protos.v1.delivery_pb2 import RepairRequest
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Manifest
from protos.v1.metadata_pb2 import MetadataIndex
from protos.v1.report_pb2 import Report


class Role(StrEnum):
    """Who speaks or listens on a channel."""

    CLOUD = "cloud"
    DEVICE = "device"
    BROKER = "broker"
    """The broker on behalf of a device that is gone without a word: its last will."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A payload that is a protobuf message."""

    message: type[Message]
    purpose: str = ""
    """Empty: the payload is the message. Otherwise it is a Signed around it, signed for this purpose."""
    repeats: tuple[str, ...] = ()
    """Fields that say again what the topic's parameter of the same name says."""
    digest: str = ""
    """The topic's parameter that is the SHA-256 of the message's bytes."""


@dataclass(frozen=True, slots=True)
class Words:
    """A payload that is one of a few words of ASCII."""

    words: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Opaque:
    """A payload that says nothing by itself: bytes of a larger whole."""

    content_type: str = "application/octet-stream"


Payload = Encoded | Words | Opaque


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of topic, and what every message on it is like."""

    name: str
    address: str
    """The topic, with its parameters in braces: `protos.topics.PARAMETERS` says what may stand for each."""
    senders: tuple[Role, ...]
    receivers: tuple[Role, ...]
    payload: Payload
    summary: str
    max_bytes: int = topics.MAX_MQTT_BYTES
    retained: bool = True
    cleared: bool = False
    """Whether an empty payload may be sent, which makes the broker forget the topic."""
    qos: int = 1

    def parameters(self, topic: str) -> Mapping[str, str] | None:
        """What stands for each parameter in `topic`; None if it is no topic of this channel."""
        found = topics.matcher(self.address).fullmatch(topic)
        return found.groupdict() if found else None


CLOUD, DEVICE, BROKER = Role

CHANNELS = (
    Channel(
        name="metadata",
        address=topics.METADATA,
        senders=(CLOUD,),
        receivers=(DEVICE, CLOUD),
        payload=Opaque("application/json"),
        max_bytes=topics.MAX_METADATA_BYTES,
        cleared=True,
        summary="One file of The Update Framework's metadata: which keys count, and which model versions there are.",
    ),
    Channel(
        name="metadata_index",
        address=topics.METADATA_INDEX,
        senders=(CLOUD,),
        receivers=(DEVICE, CLOUD),
        payload=Encoded(MetadataIndex),
        max_bytes=topics.MAX_INDEX_BYTES,
        summary="The newest versions of root and timestamp, since a broker never says that it has nothing.",
    ),
    Channel(
        name="manifest",
        address=topics.MANIFEST,
        senders=(CLOUD,),
        receivers=(DEVICE, CLOUD),
        payload=Encoded(Manifest, envelope.MANIFEST, digest="manifest"),
        max_bytes=topics.MAX_MANIFEST_BYTES,
        cleared=True,
        summary="What a model version is: its files, chunks, preprocessing and golden vectors.",
    ),
    Channel(
        name="chunk",
        address=topics.CHUNK,
        senders=(CLOUD,),
        receivers=(DEVICE,),
        payload=Opaque(),
        max_bytes=topics.MAX_CHUNK_BYTES,
        cleared=True,
        summary="One chunk of a file or of a patch as it travels; the manifest has its digest.",
    ),
    Channel(
        name="repair",
        address=topics.REPAIR,
        senders=(DEVICE,),
        receivers=(CLOUD,),
        payload=Encoded(RepairRequest, repeats=("artifact",)),
        max_bytes=topics.MAX_REPAIR_BYTES,
        retained=False,
        summary="Chunks that the broker should have and has not: the cloud sends each again, once.",
    ),
    Channel(
        name="desired",
        address=topics.DESIRED,
        senders=(CLOUD,),
        receivers=(DEVICE,),
        payload=Encoded(Deployment, envelope.DEPLOYMENT, repeats=("device", "slot")),
        summary="Which model version one device shall run in one slot.",
    ),
    Channel(
        name="reported",
        address=topics.REPORTED,
        senders=(DEVICE,),
        receivers=(CLOUD,),
        payload=Encoded(Report, repeats=("device",)),
        summary="What a device is and runs, whole each time, with the receipts of its updates.",
    ),
    Channel(
        name="presence",
        address=topics.PRESENCE,
        senders=(DEVICE, BROKER),
        receivers=(CLOUD,),
        payload=Words((b"online", b"offline")),
        max_bytes=len(b"offline"),
        summary="Whether a device is connected; the broker says offline for one that is gone without a word.",
    ),
)


def find(topic: str) -> tuple[Channel, Mapping[str, str]] | None:
    """The channel that a topic belongs to, with its parameters; None: the contract does not know it."""
    for channel in CHANNELS:
        parameters = channel.parameters(topic)
        if parameters is not None:
            return channel, parameters
    return None
