"""Private keys in files: made once, durably, readable by their owner only."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from protos.kit.files import create_durably


class KeysFailed(Exception):
    """A key cannot be read, made or understood; the message names the file and what to do."""


def load_or_create(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in the PEM file `path`, made if there is none. Raises KeysFailed.

    Processes that start at once all get the same key: the first file in place stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            create_durably(path, pem, mode=0o600)
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeysFailed(f"signing key {path} cannot be read or made: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise KeysFailed(f"signing key {path} is damaged: {error}. Restore it from a backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysFailed(f"signing key {path} is not an Ed25519 key")
    return key
