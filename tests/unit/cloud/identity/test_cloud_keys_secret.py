"""The server's keys as a Kubernetes Secret: what a cloud needs that shares nothing else with the one that made them."""

from __future__ import annotations

import base64
import errno
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from tuf.api.metadata import Metadata

from cloud.cli import littoral
from cloud.foundation.database import Database
from cloud.identity import rules
from cloud.identity.entities import DIRECTOR, Lifetimes, MetadataFailed
from cloud.identity.service import Identity
from cloud.identity.trust import FleetTrust
from protos.kit import envelope
from tests.trust_kit import Fleet, digest, manifest, now_ms


def mounted(fleet: Fleet, folder: Path) -> Path:
    """What the Secret of `fleet` is as a volume: flat, and without the offline keys."""
    folder.mkdir()
    for path in fleet.trust.signers.online():
        (folder / path.name).write_bytes(path.read_bytes())
    for name, data in fleet.trust.founding().items():
        (folder / name).write_bytes(data)
    return folder


def cloud_with(keys: Path, folder: Path) -> FleetTrust:
    """A cloud with an empty database, these keys and no offline keys."""
    folder.mkdir()
    database = Database(f"sqlite:///{folder}/fleet.db")
    database.create()
    return FleetTrust(database, Identity(folder, keys), folder / "none", Lifetimes())


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet(tmp_path / "fleet")
    made.changes.delegate(["digits"], now_ms())
    return made


def test_a_cloud_with_the_secret_and_an_empty_database_is_the_same_fleet(fleet: Fleet, tmp_path: Path) -> None:
    trust = cloud_with(mounted(fleet, tmp_path / "keys"), tmp_path / "other")
    trust.prepare(lambda _: [], now_ms())
    assert trust.trust() == fleet.trust.trust()
    assert trust.file("1.root.json") == fleet.root


def test_versions_of_a_delegated_model_can_be_registered_there(fleet: Fleet, tmp_path: Path) -> None:
    trust = cloud_with(mounted(fleet, tmp_path / "keys"), tmp_path / "other")
    trust.prepare(lambda _: [("digits", 1, manifest("digits/1"))], now_ms())
    listed = Metadata.from_bytes(trust.file("1.digits.json") or b"").signed.targets
    assert [target.hashes["sha256"] for target in listed.values()] == [digest("digits/1").hex()]


def test_every_root_that_the_fleet_ever_had_comes_along(fleet: Fleet, tmp_path: Path) -> None:
    fleet.changes.rotate(["root"], now_ms())
    fleet.changes.rotate(["timestamp"], now_ms())
    trust = cloud_with(mounted(fleet, tmp_path / "keys"), tmp_path / "other")
    trust.prepare(lambda _: [], now_ms())
    assert [trust.file(f"{version}.root.json") is not None for version in (1, 2, 3, 4)] == [True, True, True, False]


def test_metadata_beside_the_keys_that_nobody_signed_begins_no_fleet(fleet: Fleet, tmp_path: Path) -> None:
    keys = mounted(fleet, tmp_path / "keys")
    root = Metadata.from_bytes((keys / "1.root.json").read_bytes())
    root.signed.version = 2
    (keys / "2.root.json").write_bytes(root.to_bytes())
    with pytest.raises(MetadataFailed, match="root"):
        cloud_with(keys, tmp_path / "other").prepare(lambda _: [], now_ms())


def test_what_is_no_metadata_at_all_is_named(fleet: Fleet, tmp_path: Path) -> None:
    keys = mounted(fleet, tmp_path / "keys")
    (keys / "1.targets.json").write_text("{}")
    with pytest.raises(MetadataFailed, match=r"\.targets\.json, beside the keys, is no metadata"):
        cloud_with(keys, tmp_path / "other").prepare(lambda _: [], now_ms())


def test_keys_that_are_only_mounted_follow_a_replaced_director_too(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, _: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    following = fleet.identity.next_director()
    identity = Identity(tmp_path, mounted(fleet, tmp_path / "keys"))
    monkeypatch.setattr(Path, "replace", read_only)
    assert identity.follow(list(following))
    assert identity.public()[DIRECTOR] == following
    (signature,) = identity.sign(envelope.DEPLOYMENT, b"order").signatures
    assert signature.key_id in following


def test_the_command_prints_what_kubectl_applies_a_secret_for_each_thing_that_is_signed(tmp_path: Path) -> None:
    folder = ["--dir", str(tmp_path / "cloud")]
    for command in (["init"], ["delegate", "digits"]):
        CliRunner().invoke(littoral, ["keys", *command, *folder], catch_exceptions=False)
    printed = (
        CliRunner().invoke(littoral, ["keys", "secret", "--name", "fleet", *folder], catch_exceptions=False).stdout
    )
    secrets = {one["metadata"]["name"]: one["data"] for one in json.loads(printed)["items"]}
    assert {name: sorted(data) for name, data in secrets.items()} == {
        "fleet-deployment": ["deployment.key"],
        "fleet-manifest": ["manifest.key"],
        "fleet-metadata": ["1.root.json", "2.targets.json", "snapshot.1.key", "timestamp.1.key"],
        "fleet-models": ["model.digits.1.key"],
    }
    assert base64.b64decode(secrets["fleet-manifest"]["manifest.key"]).startswith(b"-----BEGIN PRIVATE KEY")


def test_a_directors_next_key_is_kept_with_the_present_one() -> None:
    assert rules.kept_with("deployment-next.key") == "deployment"


def test_keys_that_an_earlier_version_kept_in_folders_are_found(fleet: Fleet, tmp_path: Path) -> None:
    keys = fleet.identity.keys
    before = [signer.public_key.keyid for role in ("timestamp", "digits") for signer in fleet.trust.signers.of(role)]
    for flat, former in (("timestamp.1.key", "timestamp/1.key"), ("model.digits.1.key", "models/digits/1.key")):
        (keys / former).parent.mkdir(parents=True)
        (keys / flat).rename(keys / former)
    signers = FleetTrust(fleet.database, Identity(tmp_path, keys), tmp_path / "none", Lifetimes()).signers
    assert [signer.public_key.keyid for role in ("timestamp", "digits") for signer in signers.of(role)] == before
