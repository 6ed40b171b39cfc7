import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization.json import JSONSerializer

from edge.identity.service import DeviceIdentity, read_root
from protos.kit import envelope
from protos.kit.keys import KeysFailed

OLDER = {"manifest": {"id": "ab"}, "deployment": {"id": "ab"}}


def root() -> bytes:
    """A root that is signed as it says: its own key is the only one of each role."""
    signer = CryptoSigner(Ed25519PrivateKey.generate())
    content = Root()
    for role in content.roles:
        content.add_key(signer.public_key, role)
    metadata = Metadata(content)
    metadata.sign(signer)
    return metadata.to_bytes(JSONSerializer(compact=True))


ROOT = root()


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


def test_trust_begins_with_the_root_in_the_trust_file(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(OLDER | {"root": json.loads(ROOT)}))
    assert json.loads(read_root(path)) == json.loads(ROOT)


def test_a_trust_file_of_a_cloud_without_metadata_has_no_root(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(OLDER))
    assert read_root(path) == b""


@pytest.mark.parametrize("what", ["missing", "a folder"])
def test_a_trust_file_that_cannot_be_read_is_named_with_the_remedy(tmp_path: Path, what: str) -> None:
    path = tmp_path / "trust.json"
    if what == "a folder":
        path.mkdir()
    with pytest.raises(KeysFailed) as caught:
        read_root(path)
    assert f"trust file {path} cannot be read" in str(caught.value)
    assert "Copy trust.json from the cloud's data folder" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\udcff",
        "[]",
        "{}",
        json.dumps({"manifest": OLDER["manifest"]}),
        json.dumps(OLDER | {"root": {}}),
        json.dumps(OLDER | {"root": "x"}),
        json.dumps(OLDER | {"root": json.loads(ROOT) | {"signatures": []}}),
        json.dumps(OLDER | {"root": json.loads(ROOT.replace(b'"version":1', b'"version":2'))}),
    ],
)
def test_a_malformed_trust_file_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(KeysFailed) as caught:
        read_root(path)
    assert f"trust file {path} is not a trust.json of a Littoral cloud" in str(caught.value)
    assert "Copy trust.json from the cloud's data folder" in str(caught.value)
