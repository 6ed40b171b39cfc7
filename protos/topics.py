"""Every MQTT topic and every size limit of the contract.

Topics have at most 7 slashes and payloads stay below 128 KB, so that the same topics work on every common broker.
Digests in topics are lower-case hex of SHA-256.
"""

from __future__ import annotations

import re

ROOT = "littoral/v1"

MAX_CHUNK_BYTES = 64 * 1024
MAX_MQTT_BYTES = 128 * 1024
MAX_MANIFEST_BYTES = 96 * 1024
MAX_METADATA_BYTES = 120 * 1024
MAX_INDEX_BYTES = 1024
MAX_GRPC_BYTES = 4 * 1024 * 1024
MAX_BATCH_ROWS = 4096
MAX_ARTIFACT_BYTES = 1024 * 1024 * 1024

NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
"""Names of devices, models, slots and sources: what Kubernetes allows for a node, at most 63 characters."""

DEFAULT_SLOT = "default"

_DEVICE_TOPIC = re.compile(rf"{ROOT}/devices/(?P<device>[^/]+)/.+")
_CHUNK_TOPIC = re.compile(rf"{ROOT}/artifacts/(?P<artifact>[0-9a-f]{{64}})/chunks/(?P<index>[0-9]{{1,7}})")
_ARTIFACT_TOPIC = re.compile(rf"{ROOT}/artifacts/(?P<artifact>[0-9a-f]{{64}})/.+")

METADATA_INDEX = f"{ROOT}/metadata/index"
"""MetadataIndex, retained, from the publisher: what there is, since a broker never says that it has nothing."""

ALL_METADATA = f"{ROOT}/metadata/+"

ALL_REPORTED = f"{ROOT}/devices/+/reported"
ALL_PRESENCE = f"{ROOT}/devices/+/presence"
ALL_REPAIR = f"{ROOT}/artifacts/+/repair"


def checked_name(name: str, what: str) -> str:
    """Return `name` if it may stand in a topic; raise ValueError that says what is wrong otherwise."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} is not a name: use 1 to 63 lower-case letters, digits, '-' or '.', "
            "beginning and ending with a letter or digit"
        )
    return name


def manifest(digest: bytes) -> str:
    """Signed Manifest, retained, from the publisher."""
    return f"{ROOT}/manifests/{digest.hex()}"


def metadata(file: str) -> str:
    """One file of TUF metadata, such as `timestamp.json` or `3.snapshot.json`, retained, from the publisher."""
    return f"{ROOT}/metadata/{file}"


def chunk(artifact: bytes, index: int) -> str:
    """One chunk's bytes, retained, from the publisher."""
    return f"{ROOT}/artifacts/{artifact.hex()}/chunks/{index}"


def repair(artifact: bytes) -> str:
    """RepairRequest, not retained, from devices."""
    return f"{ROOT}/artifacts/{artifact.hex()}/repair"


def desired(device: str, slot: str = DEFAULT_SLOT) -> str:
    """Signed Deployment, retained, from the publisher."""
    return f"{ROOT}/devices/{device}/desired/{slot}"


def all_desired(device: str) -> str:
    """Subscription to every slot's desired state of one device."""
    return f"{ROOT}/devices/{device}/desired/+"


def reported(device: str) -> str:
    """Report, retained, from the device."""
    return f"{ROOT}/devices/{device}/reported"


def presence(device: str) -> str:
    """b"online" or b"offline" (the device's last will), retained, from the device or the broker on its behalf."""
    return f"{ROOT}/devices/{device}/presence"


def device_of(topic: str) -> str:
    """The device id in a topic below `devices/`; ValueError for any other topic."""
    found = _DEVICE_TOPIC.fullmatch(topic)
    if not found:
        raise ValueError(f"{topic!r} is not a device's topic")
    return checked_name(found["device"], "device id")


def chunk_of(topic: str) -> tuple[bytes, int]:
    """The artifact's digest and the index in a chunk's topic; ValueError for any other topic."""
    found = _CHUNK_TOPIC.fullmatch(topic)
    if not found:
        raise ValueError(f"{topic!r} is not a chunk's topic")
    return bytes.fromhex(found["artifact"]), int(found["index"])


def artifact_of(topic: str) -> bytes:
    """The artifact's digest in any topic below `artifacts/`; ValueError for any other topic."""
    found = _ARTIFACT_TOPIC.fullmatch(topic)
    if not found:
        raise ValueError(f"{topic!r} is not an artifact's topic")
    return bytes.fromhex(found["artifact"])
