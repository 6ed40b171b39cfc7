"""The cloud signs: model manifests with one key, deployments with another."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.identity.entities import DIRECTOR
from protos.kit import envelope
from protos.kit.files import sync_folder
from protos.kit.keys import load_or_create
from protos.v1.manifest_pb2 import Signed

ROLES = {"manifest": envelope.MANIFEST, DIRECTOR: envelope.DEPLOYMENT}
"""What each key signs: who steals one can publish models or send them to devices, but not both."""

NEXT_DIRECTOR = "deployment-next"


class Identity:
    """The keys in `folder`/keys, made on first use. Raises KeysFailed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keys = {role: load_or_create(self._path(role)) for role in ROLES}

    def sign(self, purpose: str, payload: bytes) -> Signed:
        """`payload`, signed with the key for `purpose`. Raises ValueError for a purpose that is not the cloud's."""
        for role, purpose_of_role in ROLES.items():
            if purpose == purpose_of_role:
                return envelope.sign(purpose, payload, self._keys[role])
        raise ValueError(f"the cloud has no key for {purpose!r}")

    def public(self) -> dict[str, dict[str, str]]:
        """For each role the key ids that count, each with its raw public key in hex. Nothing in it is secret."""
        return {role: _public(key) for role, key in self._keys.items()}

    def next_director(self) -> dict[str, str]:
        """The public key that is to sign deployments once devices have been told, made if there is none."""
        return _public(load_or_create(self._path(NEXT_DIRECTOR)))

    def follow(self, directors: Collection[str]) -> bool:
        """Sign deployments with the next key if devices have been told of it. directors: key ids that they believe.

        Whether they believe this cloud's key now.
        """
        path = self._path(NEXT_DIRECTOR)
        if path.exists() and directors and set(self.next_director()) <= set(directors):
            path.replace(self._path(DIRECTOR))
            sync_folder(path.parent)
            self._keys[DIRECTOR] = load_or_create(self._path(DIRECTOR))
        return set(_public(self._keys[DIRECTOR])) <= set(directors)

    def _path(self, role: str) -> Path:
        return self.folder / "keys" / f"{role}.key"


def _public(key: Ed25519PrivateKey) -> dict[str, str]:
    public = key.public_key()
    return {envelope.key_id(public): public.public_bytes_raw().hex()}
