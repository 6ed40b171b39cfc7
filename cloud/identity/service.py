"""The cloud signs: model manifests with one key, deployments with another."""

from __future__ import annotations

import errno
from collections.abc import Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.identity.entities import DIRECTOR
from protos.kit import envelope
from protos.kit.files import sync_folder
from protos.kit.keys import KeysFailed, load_or_create
from protos.v1.manifest_pb2 import Signed

ROLES = {"manifest": envelope.MANIFEST, DIRECTOR: envelope.DEPLOYMENT}
"""What each key signs: who steals one can publish models or send them to devices, but not both."""

NEXT_DIRECTOR = "deployment-next"


class Identity:
    """The keys in `keys` (none: `folder`/keys), made on first use, and read again when another process replaced one.

    signs: for which of ROLES this process signs; no other key is looked at, nor needs to be here. Raises KeysFailed.
    """

    def __init__(self, folder: Path, keys: Path | None = None, signs: Collection[str] = ROLES.keys()) -> None:
        self.folder = folder
        self.keys = keys or folder / "keys"
        self.signs = frozenset(signs)
        self._director = DIRECTOR
        self._read: dict[str, tuple[tuple[int, int], Ed25519PrivateKey]] = {}
        self.public()

    def sign(self, purpose: str, payload: bytes) -> Signed:
        """`payload`, signed with the key for `purpose`. Raises ValueError for a purpose that is not the cloud's."""
        for role, purpose_of_role in ROLES.items():
            if purpose == purpose_of_role:
                if role not in self.signs:
                    raise KeysFailed(f"this process signs no {role}s: its role was started without that key")
                return envelope.sign(purpose, payload, self._key(role))
        raise ValueError(f"the cloud has no key for {purpose!r}")

    def public(self) -> dict[str, dict[str, str]]:
        """For each role of `signs` the key ids that count, each with its raw public key in hex; nothing secret."""
        return {role: _public(self._key(role)) for role in ROLES if role in self.signs}

    def director(self) -> dict[str, str]:
        """The public key that signs deployments, whether this process does or not."""
        return _public(self._key(DIRECTOR))

    def next_director(self) -> dict[str, str]:
        """The public key that is to sign deployments once devices have been told, made if there is none."""
        return _public(load_or_create(self._path(NEXT_DIRECTOR)))

    def follow(self, directors: Collection[str]) -> bool:
        """Sign deployments with the next key if devices have been told of it. directors: key ids that they believe.

        Whether they believe this cloud's key now.
        """
        path = self._path(NEXT_DIRECTOR)
        if path.exists() and directors and set(self.next_director()) <= set(directors):
            self._take_up(path)
        return set(self.director()) <= set(directors)

    def _take_up(self, following: Path) -> None:
        try:
            following.replace(self._path(DIRECTOR))
            sync_folder(following.parent)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            self._director = NEXT_DIRECTOR  # keys that are only mounted here, as a Secret is

    def _key(self, role: str) -> Ed25519PrivateKey:
        path = self._path(self._director if role == DIRECTOR else role)
        is_gone = role in self._read and not path.exists()  # then what is known goes on until the next start
        if not is_gone and (role not in self._read or _stamp(path) != self._read[role][0]):
            key = load_or_create(path)
            self._read[role] = (_stamp(path), key)
        return self._read[role][1]

    def _path(self, role: str) -> Path:
        return self.keys / f"{role}.key"


def _stamp(path: Path) -> tuple[int, int]:
    """What tells one file at `path` from another."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def _public(key: Ed25519PrivateKey) -> dict[str, str]:
    public = key.public_key()
    return {envelope.key_id(public): public.public_bytes_raw().hex()}
