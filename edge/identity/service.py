"""This device's key, and the public keys of the cloud that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protos.kit import envelope
from protos.kit.keys import KeysFailed, load_or_create
from protos.v1.manifest_pb2 import Signed

KEY_FILE = "device.key"
REMEDY = "Copy trust.json from the cloud's data folder"

Keys = Mapping[str, Ed25519PublicKey]


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """A device and its signing key."""

    device: str
    key: Ed25519PrivateKey

    @classmethod
    def load(cls, folder: Path, device: str) -> DeviceIdentity:
        """The key in `folder`, made at the first start. Raises KeysFailed."""
        return cls(device, load_or_create(folder / KEY_FILE))

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, purpose: str, payload: bytes) -> Signed:
        """`payload` in an envelope, signed with this device's key."""
        return envelope.sign(purpose, payload, self.key)


@dataclass(frozen=True, slots=True)
class Trust:
    """The cloud's public keys by key id, one set for each kind of message."""

    manifest_keys: Keys
    deployment_keys: Keys

    @classmethod
    def read(cls, path: Path) -> Trust:
        """From the cloud's `trust.json`. Raises KeysFailed that says what is wrong and where to get the right one."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(_keys(content["manifest"]), _keys(content["deployment"]))
        except OSError as error:
            raise KeysFailed(
                f"trust file {path} cannot be read: {error.strerror}. {REMEDY}, and name it with --trust"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise KeysFailed(
                f"trust file {path} is not a trust.json of a Littoral cloud: {error!r}. {REMEDY}"
            ) from error


def _keys(content: Mapping[str, str]) -> Keys:
    keys = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw)) for raw in content.values()]
    found = {envelope.key_id(key): key for key in keys}
    if not found or set(found) != set(content):
        raise ValueError("a key id does not belong to its key, or there is no key")
    return found
