"""Every MQTT topic and every size limit of the contract.

Topics have at most 7 slashes and payloads stay below 128 KB, so that the same topics work on every common broker.
Digests in topics are lower-case hex of SHA-256.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

ROOT = "littoral/v1"

MAX_CHUNK_BYTES = 64 * 1024
MAX_MQTT_BYTES = 128 * 1024
MAX_MANIFEST_BYTES = 96 * 1024
MAX_REPAIR_BYTES = 4096
"""A bitmap of 16,384 chunks, the most an artifact can have, takes 2 KB."""
MAX_METADATA_BYTES = 120 * 1024
MAX_INDEX_BYTES = 1024
MAX_GRPC_BYTES = 4 * 1024 * 1024
MAX_BATCH_ROWS = 4096
MAX_EVENTS = 512
MAX_INTERVALS = 512
"""Of an EventBatch, of a TelemetryBatch."""
MAX_EVENT_TEXT = 500
"""Characters of an event's text."""
MAX_SAMPLE_BYTES = 16 * 1024 * 1024
SAMPLE_PIECE_BYTES = 16 * 1024
"""Small, so that a result that comes after it on a slow line waits for little."""
MAX_SAMPLE_OFFERS = 16
MAX_SAMPLE_PIECES = 2
"""Offers that are open, and pieces not yet answered, on one stream."""
MAX_ARTIFACT_BYTES = 1024 * 1024 * 1024
MAX_DICTIONARY_BYTES = 8 * 1024 * 1024
"""A patch by dictionary is applied with both files in memory; larger ones are patched by difference, in flat memory."""

NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
"""Names of devices, models, slots and sources: what Kubernetes allows for a node, at most 63 characters."""

DEFAULT_SLOT = "default"

SHADOW = ".shadow"
"""At the end of the name of the slot in which a slot's challenger runs."""

_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What may stand for a parameter of the templates below: a regular expression, and in words."""

    pattern: str
    meaning: str


_DIGEST = "[0-9a-f]{64}"
PARAMETERS = {
    "manifest": Parameter(_DIGEST, "SHA-256 of the manifest's bytes, in lower-case hex."),
    "artifact": Parameter(_DIGEST, "SHA-256 of the uncompressed file, in lower-case hex."),
    "index": Parameter("[0-9]{1,7}", "The chunk's place in the file as it travels, from 0."),
    "file": Parameter(
        r"timestamp\.json|[0-9]{1,18}\.[a-z0-9.-]{1,63}\.json",
        "The file's name: timestamp.json, or version, role and .json, such as 3.snapshot.json.",
    ),
    "device": Parameter(NAME.pattern, "Name of the device, unique in the fleet."),
    "slot": Parameter(NAME.pattern, f"What the model is for; {DEFAULT_SLOT!r} for a device's main model."),
}

_ARTIFACT = f"{ROOT}/artifacts/{{artifact}}"
_DEVICE = f"{ROOT}/devices/{{device}}"

METADATA = f"{ROOT}/metadata/{{file}}"
METADATA_INDEX = f"{ROOT}/metadata/index"
MANIFEST = f"{ROOT}/manifests/{{manifest}}"
CHUNK = f"{_ARTIFACT}/chunks/{{index}}"
REPAIR = f"{_ARTIFACT}/repair"
DESIRED = f"{_DEVICE}/desired/{{slot}}"
REPORTED = f"{_DEVICE}/reported"
PRESENCE = f"{_DEVICE}/presence"


@cache
def matcher(template: str) -> re.Pattern[str]:
    """The topics of a template, with one named group for each parameter."""
    return re.compile(_PARAMETER.sub(lambda found: f"(?P<{found[1]}>{PARAMETERS[found[1]].pattern})", template))


def all_of(template: str) -> str:
    """Subscription to every topic of a template."""
    return _PARAMETER.sub("+", template)


ALL_METADATA = all_of(METADATA)
ALL_REPORTED = all_of(REPORTED)
ALL_PRESENCE = all_of(PRESENCE)
ALL_REPAIR = all_of(REPAIR)
ALL_MANIFESTS = all_of(MANIFEST)

_DEVICE_TOPIC = matcher(f"{_DEVICE}/.+")
_CHUNK_TOPIC = matcher(CHUNK)
_ARTIFACT_TOPIC = matcher(f"{_ARTIFACT}/.+")


def checked_name(name: str, what: str) -> str:
    """Return `name` if it may stand in a topic; raise ValueError that says what is wrong otherwise."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} is not a name: use 1 to 63 lower-case letters, digits, '-' or '.', "
            "beginning and ending with a letter or digit"
        )
    return name


def shadow_slot(slot: str) -> str:
    """The slot of the challenger to the champion in `slot`."""
    return slot + SHADOW


def is_shadow(slot: str) -> bool:
    """Whether this is a challenger's slot."""
    return slot.endswith(SHADOW)


def manifest(digest: bytes) -> str:
    """Signed Manifest, retained, from the publisher."""
    return MANIFEST.format(manifest=digest.hex())


def metadata(file: str) -> str:
    """One file of TUF metadata, such as `timestamp.json` or `3.snapshot.json`, retained, from the publisher."""
    return METADATA.format(file=file)


def chunk(artifact: bytes, index: int) -> str:
    """One chunk's bytes, retained, from the publisher."""
    return CHUNK.format(artifact=artifact.hex(), index=index)


def repair(artifact: bytes) -> str:
    """RepairRequest, not retained, from devices."""
    return REPAIR.format(artifact=artifact.hex())


def desired(device: str, slot: str = DEFAULT_SLOT) -> str:
    """Signed Deployment, retained, from the publisher."""
    return DESIRED.format(device=device, slot=slot)


def all_desired(device: str) -> str:
    """Subscription to every slot's desired state of one device."""
    return DESIRED.format(device=device, slot="+")


def reported(device: str) -> str:
    """Report, retained, from the device."""
    return REPORTED.format(device=device)


def presence(device: str) -> str:
    """b"online" or b"offline" (the device's last will), retained, from the device or the broker on its behalf."""
    return PRESENCE.format(device=device)


def device_of(topic: str) -> str:
    """The device id in a topic below `devices/`; ValueError for any other topic."""
    found = _DEVICE_TOPIC.fullmatch(topic)
    if not found:
        raise ValueError(f"{topic!r} is not a device's topic")
    return found["device"]


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
