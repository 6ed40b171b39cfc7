"""Private keys in files: made once, durably, readable by their owner only."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from cloud.identity.entities import KeysFailed
from protos.kit.files import sync_folder


def load_or_create(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in the PEM file `path`, made if there is none. Raises KeysFailed.

    Processes that start at once all get the same key: the first file in place stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _create(path)
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeysFailed(f"signing key {path} cannot be read or made: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise KeysFailed(f"signing key {path} is damaged: {error}. Restore it from a backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysFailed(f"signing key {path} is not an Ed25519 key")
    return key


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, never replaces a key that another process has put there meanwhile.
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    sync_folder(path.parent)
