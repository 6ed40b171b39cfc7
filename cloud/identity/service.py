"""The cloud signs: model manifests with one key, deployments with another."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.identity.entities import DIRECTOR
from protos.kit import envelope
from protos.kit.keys import load_or_create
from protos.v1.manifest_pb2 import Signed

ROLES = {"manifest": envelope.MANIFEST, DIRECTOR: envelope.DEPLOYMENT}
"""What each key signs: who steals one can publish models or send them to devices, but not both."""


class Identity:
    """The keys in `folder`/keys, made on first use. Raises KeysFailed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keys = {role: load_or_create(folder / "keys" / f"{role}.key") for role in ROLES}

    def sign(self, purpose: str, payload: bytes) -> Signed:
        """`payload`, signed with the key for `purpose`. Raises ValueError for a purpose that is not the cloud's."""
        for role, purpose_of_role in ROLES.items():
            if purpose == purpose_of_role:
                return envelope.sign(purpose, payload, self._keys[role])
        raise ValueError(f"the cloud has no key for {purpose!r}")

    def public(self) -> dict[str, dict[str, str]]:
        """For each role the key ids that count, each with its raw public key in hex. Nothing in it is secret."""
        return {role: _public(key) for role, key in self._keys.items()}


def _public(key: Ed25519PrivateKey) -> dict[str, str]:
    public = key.public_key()
    return {envelope.key_id(public): public.public_bytes_raw().hex()}
