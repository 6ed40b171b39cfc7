import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edge.identity.service import DeviceIdentity, Trust
from protos.kit import envelope
from protos.kit.keys import KeysFailed


def public(key: Ed25519PrivateKey) -> dict[str, str]:
    return {envelope.key_id(key.public_key()): key.public_key().public_bytes_raw().hex()}


MANIFESTS, DEPLOYMENTS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
GOOD = {"manifest": public(MANIFESTS), "deployment": public(DEPLOYMENTS)}


def test_a_device_keeps_its_key(tmp_path: Path) -> None:
    assert DeviceIdentity.load(tmp_path, "edge-1").public_key == DeviceIdentity.load(tmp_path, "edge-1").public_key


def test_two_devices_have_different_keys(tmp_path: Path) -> None:
    first, second = (DeviceIdentity.load(tmp_path / name, name) for name in ("edge-1", "edge-2"))
    assert first.public_key != second.public_key


def test_only_its_owner_can_read_the_key(tmp_path: Path) -> None:
    DeviceIdentity.load(tmp_path, "edge-1")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_starts_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: DeviceIdentity.load(tmp_path, "edge-1").public_key, range(16)))
    assert len(set(keys)) == 1


def test_what_a_device_signs_is_verified_with_its_public_key_for_that_purpose_alone(tmp_path: Path) -> None:
    identity = DeviceIdentity.load(tmp_path, "edge-1")
    key = Ed25519PublicKey.from_public_bytes(identity.public_key)
    keys = {envelope.key_id(key): key}
    signed = identity.sign(envelope.RECEIPT, b"done")
    assert envelope.verify(envelope.RECEIPT, signed, keys) == b"done"
    with pytest.raises(envelope.Untrusted):
        envelope.verify(envelope.DEPLOYMENT, signed, keys)


def test_a_damaged_key_is_named_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "device.key").write_text("rust")
    with pytest.raises(KeysFailed, match=r"device\.key is damaged"):
        DeviceIdentity.load(tmp_path, "edge-1")
    assert (tmp_path / "device.key").read_text() == "rust"


def test_trust_has_one_set_of_keys_for_each_kind_of_message(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(GOOD))
    trust = Trust.read(path)
    signed = envelope.sign(envelope.MANIFEST, b"x", MANIFESTS)
    assert envelope.verify(envelope.MANIFEST, signed, trust.manifest_keys) == b"x"
    with pytest.raises(envelope.Untrusted):
        envelope.verify(envelope.MANIFEST, signed, trust.deployment_keys)


@pytest.mark.parametrize("what", ["missing", "a folder"])
def test_a_trust_file_that_cannot_be_read_is_named_with_the_remedy(tmp_path: Path, what: str) -> None:
    path = tmp_path / "trust.json"
    if what == "a folder":
        path.mkdir()
    with pytest.raises(KeysFailed) as caught:
        Trust.read(path)
    assert f"trust file {path} cannot be read" in str(caught.value)
    assert "Copy trust.json from the cloud's data folder" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\udcff",
        "[]",
        "{}",
        json.dumps({"manifest": GOOD["manifest"]}),
        json.dumps(GOOD | {"deployment": {}}),
        json.dumps(GOOD | {"deployment": ["x"]}),
        json.dumps(GOOD | {"deployment": {"id": 3}}),
        json.dumps(GOOD | {"deployment": {"id": "abcd"}}),
        json.dumps(GOOD | {"deployment": {"0" * 64: next(iter(GOOD["deployment"].values()))}}),
    ],
)
def test_a_malformed_trust_file_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(KeysFailed) as caught:
        Trust.read(path)
    assert f"trust file {path} is not a trust.json of a Littoral cloud" in str(caught.value)
    assert "Copy trust.json from the cloud's data folder" in str(caught.value)
