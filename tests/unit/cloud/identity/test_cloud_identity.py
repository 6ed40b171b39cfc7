"""The cloud's keys: made once, shared by all processes, each for its own purpose."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cloud.identity.service import Identity
from protos.kit import envelope
from protos.kit.keys import KeysFailed


def trusted(identity: Identity, role: str) -> dict[str, Ed25519PublicKey]:
    keys = identity.public()[role]
    return {key_id: Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw)) for key_id, raw in keys.items()}


def test_what_is_signed_for_a_purpose_is_trusted_for_it(tmp_path: Path) -> None:
    identity = Identity(tmp_path)
    for role, purpose in (("manifest", envelope.MANIFEST), ("deployment", envelope.DEPLOYMENT)):
        signed = identity.sign(purpose, b"payload")
        assert envelope.verify(purpose, signed, trusted(identity, role)) == b"payload"


def test_the_key_for_manifests_is_not_trusted_for_deployments(tmp_path: Path) -> None:
    identity = Identity(tmp_path)
    signed = identity.sign(envelope.MANIFEST, b"payload")
    with pytest.raises(envelope.Untrusted):
        envelope.verify(envelope.DEPLOYMENT, signed, trusted(identity, "deployment"))


def test_the_cloud_signs_nothing_that_only_a_device_may_say(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no key for 'littoral/v1/receipt'"):
        Identity(tmp_path).sign(envelope.RECEIPT, b"payload")


def test_a_process_that_does_not_direct_needs_no_directors_key_and_makes_none(tmp_path: Path) -> None:
    identity = Identity(tmp_path, signs={"manifest"})
    with pytest.raises(KeysFailed, match="this process signs no deployments"):
        identity.sign(envelope.DEPLOYMENT, b"payload")
    assert set(identity.public()) == {"manifest"}
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["manifest.key"]


def test_a_restart_finds_the_same_keys(tmp_path: Path) -> None:
    assert Identity(tmp_path).public() == Identity(tmp_path).public()


def test_starts_at_the_same_moment_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        trusts = list(threads.map(lambda _: json.dumps(Identity(tmp_path).public()), range(16)))
    assert len(set(trusts)) == 1


def test_private_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    Identity(tmp_path)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "keys").iterdir()} == {
        "manifest.key": "0o600",
        "deployment.key": "0o600",
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
)
def test_a_damaged_key_is_named_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys" / "manifest.key"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(KeysFailed, match=r"manifest\.key is (damaged|not an Ed25519 key)"):
        Identity(tmp_path)
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file where a folder should be")
    with pytest.raises(KeysFailed, match=r"manifest\.key cannot be read or made"):
        Identity(tmp_path)
