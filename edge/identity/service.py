"""This device's key, and the cloud that it belongs to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from protos.kit import envelope
from protos.kit.keys import KeysFailed, load_or_create
from protos.v1.manifest_pb2 import Signed

KEY_FILE = "device.key"
REMEDY = "Copy trust.json from the cloud's data folder"


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


def read_root(path: Path) -> bytes:
    """The TUF root in the cloud's `trust.json`; empty if it is from a cloud that had none yet.

    Raises KeysFailed that says what is wrong and where to get the right one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "root" not in content and content["manifest"] and content["deployment"]:
            return b""
        return _checked(json.dumps(content["root"]).encode())
    except OSError as error:
        raise KeysFailed(
            f"trust file {path} cannot be read: {error.strerror}. {REMEDY}, and name it with --trust"
        ) from error
    except (ValueError, KeyError, TypeError, DeserializationError, RepositoryError) as error:
        raise KeysFailed(f"trust file {path} is not a trust.json of a Littoral cloud: {error!r}. {REMEDY}") from error


def _checked(root: bytes) -> bytes:
    """A root that is not signed as it says is damaged; whether it is the right one only its source can tell."""
    metadata = Metadata[Root].from_bytes(root)
    metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    return root
