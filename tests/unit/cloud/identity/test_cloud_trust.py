"""The fleet's metadata: made once, changed all or nothing, renewed in time, never forked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from fastapi.testclient import TestClient
from securesystemslib.signer import SSlibKey
from sqlalchemy.exc import IntegrityError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization.json import JSONSerializer

from cloud.app import compose
from cloud.foundation.settings import CloudSettings
from cloud.identity import routes, rules
from cloud.identity.changes import sign_draft
from cloud.identity.entities import Lifetimes, MetadataFailed, NotDelegated
from cloud.identity.repository import KEPT
from cloud.identity.rules import MOST_LISTED
from cloud.identity.trust import FleetTrust
from cloud.registry.blobs import Blobs
from cloud.registry.service import Registry
from protos.kit.keys import KeysFailed
from protos.topics import MAX_METADATA_BYTES
from tests import tiny_models
from tests.trust_kit import DAY_MS, HOUR_MS, Fleet, manifest

GOOD = tiny_models.int8(tiny_models.weights())


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def content(fleet: Fleet, role: str) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads(fleet.files()[fleet.newest(role)])["signed"]
    return found


def versions(trust: FleetTrust) -> dict[str, int]:
    return {file.role: file.version for file in trust.files()}


def test_the_first_start_makes_everything_with_the_offline_keys_beside_the_data_folder(tmp_path: Path) -> None:
    settings = CloudSettings(dir=tmp_path / "cloud")
    with compose(settings) as rooms:
        assert versions(rooms.trust) == {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1}
    offline = tmp_path / "cloud-offline-keys"
    assert offline.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in offline.iterdir()) == [
        f"{role}-{number}.key" for role in ("root", "targets") for number in (1, 2, 3)
    ]
    assert {path.stat().st_mode & 0o777 for path in offline.iterdir()} == {0o600}
    assert not [path for path in (tmp_path / "cloud").rglob("*.key") if path.name.startswith(("root", "targets"))]


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    settings = CloudSettings(dir=tmp_path / "cloud")
    with compose(settings) as rooms:
        before = rooms.trust.files()
    with compose(settings) as rooms:
        assert rooms.trust.files() == before


def test_a_data_folder_from_before_there_was_metadata_lists_its_versions_at_its_first_start(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "unused")
    settings = CloudSettings(dir=tmp_path / "cloud")
    with compose(settings) as rooms:
        pass
    older = Registry(rooms.database, Blobs(settings.blobs), fleet.identity.sign)
    draft = tiny_models.manifest({"int8": GOOD})
    registered = [older.register(draft, {"int8": GOOD}, 1) for _ in range(2)]
    with rooms.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM metadata_files")
    with compose(settings) as rooms:
        (data,) = [file.data for file in rooms.trust.files() if file.role == "tiny"][-1:]
        listed = Metadata[Targets].from_bytes(data).signed.targets
    assert {path: target.hashes["sha256"] for path, target in listed.items()} == {
        f"tiny/{version.version}": version.manifest_digest.hex() for version in registered
    }


def test_a_registered_version_is_listed_and_one_that_cannot_be_listed_is_not_registered(tmp_path: Path) -> None:
    settings = CloudSettings(dir=tmp_path / "cloud")
    draft = tiny_models.manifest({"int8": GOOD})
    with compose(settings) as rooms:
        version = rooms.registry.register(draft, {"int8": GOOD}, 1)
        assert version.manifest_digest.hex() in str(rooms.trust.file("1.tiny.json"))
        (tmp_path / "cloud-offline-keys").rename(tmp_path / "away")
        rooms.registry.register(draft, {"int8": GOOD}, 2)
        draft.model = "other"
        with pytest.raises(NotDelegated, match="littoral keys delegate other --offline-keys FOLDER"):
            rooms.registry.register(draft, {"int8": GOOD}, 3)
        assert [(each.model, each.version) for each in rooms.registry.list()] == [("tiny", 1), ("tiny", 2)]
        rooms.trust.check_delegated("tiny", 4)
        with pytest.raises(NotDelegated):
            rooms.trust.check_delegated("other", 4)


def test_two_processes_that_register_at_once_list_both_and_fork_nothing(tmp_path: Path) -> None:
    first, second = Fleet(tmp_path), Fleet(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda task: task[0].register("digits", task[1]), [(first, 1), (second, 2), (first, 3)]))
    assert set(content(first, "digits")["targets"]) == {"digits/1", "digits/2", "digits/3"}  # type: ignore[call-overload]


def test_no_version_of_metadata_is_ever_written_twice(fleet: Fleet) -> None:
    with pytest.raises(IntegrityError), fleet.database.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO metadata_files SELECT role, version, x'00' FROM metadata_files")


@pytest.mark.parametrize("name", ["root", "targets", "snapshot", "timestamp", "director"])
def test_no_model_takes_a_name_of_the_fleets_own_metadata(fleet: Fleet, name: str) -> None:
    with pytest.raises(MetadataFailed, match="no model can be named"):
        fleet.register(name, 1)


def test_a_model_keeps_its_newest_versions_listed() -> None:
    role = Targets()
    for version in range(1, MOST_LISTED + 3):
        rules.add_version(role, "digits", version, manifest(str(version)))
    assert (min(map(rules._version, role.targets)), len(role.targets)) == (3, MOST_LISTED)


def test_all_versions_of_a_model_and_200_models_fit_into_one_message_each() -> None:
    """What docs/trust.md promises."""
    role, targets = Targets(), Targets()
    for number in range(10**6, 10**6 + MOST_LISTED):
        rules.add_version(role, "m" * 63, number, manifest(str(number)))
    for number in range(200):
        key = SSlibKey.from_crypto(Ed25519PrivateKey.generate().public_key())
        rules.delegate(targets, f"{number:03}{'m' * 60}", key)
    for metadata in (Metadata(role), Metadata(targets)):
        assert len(metadata.to_bytes(JSONSerializer(compact=True))) < MAX_METADATA_BYTES - 1000


def test_old_versions_of_metadata_are_forgotten_but_every_root_is_kept(fleet: Fleet) -> None:
    for number in range(1, 6):
        fleet.register("digits", number)
        fleet.changes.renew(["root"], fleet.now_ms)
    kept = [(file.role, file.version) for file in fleet.trust.files()]
    assert [version for role, version in kept if role == "root"] == [1, 2, 3, 4, 5, 6]
    assert [version for role, version in kept if role == "digits"] == [5 - KEPT + 1, 5]
    assert len([role for role, _ in kept if role == "timestamp"]) == 1


def test_what_expires_is_renewed_in_time_and_nothing_before(fleet: Fleet) -> None:
    fleet.register("digits", 1)
    before = versions(fleet.trust)
    fleet.ahead_ms = HOUR_MS // 2
    assert (fleet.trust.renew(fleet.now_ms), versions(fleet.trust)) == ([], before)
    fleet.ahead_ms = 2 * HOUR_MS
    fleet.trust.renew(fleet.now_ms)
    assert versions(fleet.trust) == before | {"timestamp": before["timestamp"] + 1}
    fleet.ahead_ms = 4 * DAY_MS
    fleet.trust.renew(fleet.now_ms)
    assert versions(fleet.trust) == before | {"timestamp": before["timestamp"] + 2, "snapshot": before["snapshot"] + 1}
    fleet.ahead_ms = 50 * DAY_MS
    fleet.trust.renew(fleet.now_ms)
    assert versions(fleet.trust)["digits"] == 2
    fleet.ahead_ms = 200 * DAY_MS
    assert fleet.trust.renew(fleet.now_ms) == []
    assert (versions(fleet.trust)["root"], versions(fleet.trust)["targets"]) == (2, before["targets"] + 1)


def test_offline_metadata_that_expires_without_its_keys_is_told_a_month_before(fleet: Fleet) -> None:
    fleet.trust.signers.offline.rename(fleet.trust.signers.offline.with_name("away"))
    fleet.ahead_ms = 300 * DAY_MS
    assert fleet.trust.renew(fleet.now_ms) == []
    fleet.ahead_ms = 340 * DAY_MS - DAY_MS // 2
    worries = fleet.trust.renew(fleet.now_ms)
    assert [worry.partition(":")[0] for worry in worries] == ["root expires in 25 days", "targets expires in 25 days"]
    assert all("--offline-keys" in worry for worry in worries)


def test_the_trust_file_has_the_newest_root_and_no_private_key(fleet: Fleet) -> None:
    fleet.changes.rotate(["root"], fleet.now_ms)
    text = fleet.trust.trust_path.read_text()
    assert "PRIVATE" not in text
    assert json.loads(text) == fleet.trust.trust()
    root = Metadata[Root].from_bytes(json.dumps(json.loads(text)["root"]).encode())
    assert root.signed.version == 2
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)


def test_a_trust_file_that_was_changed_is_put_right(fleet: Fleet) -> None:
    fleet.trust.trust_path.write_text("{}")
    fleet.trust.prepare(lambda _: [], fleet.now_ms)
    assert json.loads(fleet.trust.trust_path.read_text()) == fleet.trust.trust()


def test_a_new_fleet_in_the_folders_of_an_earlier_one_shares_no_key_with_it(tmp_path: Path) -> None:
    former = json.loads(Fleet(tmp_path).root)["signed"]["keys"]
    (tmp_path / "fleet.db").unlink()
    present = json.loads(Fleet(tmp_path).root)["signed"]["keys"]
    assert former.keys().isdisjoint(present)


def test_a_folder_for_offline_keys_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "offline").write_text("a file where a folder should be")
    with pytest.raises(KeysFailed, match="offline"):
        Fleet(tmp_path)


def test_devices_and_people_find_the_files_over_http(fleet: Fleet) -> None:
    api = FastAPI()
    api.include_router(routes.router(fleet.trust))
    client = TestClient(api)
    for name, data in fleet.files().items():
        if name != "index":
            assert client.get(f"/api/v1/metadata/{name}").content == data
    assert client.get("/api/v1/trust").json() == fleet.trust.trust()
    for name in ("2.root.json", "1.timestamp.json", "timestamp", "index", "x.root.json", "1.root.json.json", "..%2Fx"):
        assert client.get(f"/api/v1/metadata/{name}").status_code == 404


# Keys that are replaced.


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "deployment", "digits"])
def test_a_rotated_key_is_another_one_and_the_former_is_gone_from_the_disk(tmp_path: Path, role: str) -> None:
    fleet = Fleet(tmp_path)
    fleet.register("digits", 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.key")}
    fleet.changes.rotate([role], fleet.now_ms)
    after = [path.read_bytes() for path in tmp_path.rglob("*.key")]
    gone = [path for path, data in before.items() if data not in after]
    assert len(after) == len(before)
    assert len(gone) == (3 if role in {"root", "targets"} else 1)
    assert all(role in str(path) for path in gone)


def test_a_director_key_that_devices_were_not_told_of_yet_signs_nothing(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    former = fleet.identity.public()["deployment"]
    draft = fleet.changes.export("rotate", ["deployment"], fleet.now_ms)
    running = Fleet(tmp_path).identity
    assert running.public()["deployment"] == former
    signed, _ = sign_draft(draft, fleet.trust.signers.offline)
    assert fleet.changes.accept(signed, fleet.now_ms) == "targets"
    assert fleet.identity.public()["deployment"] != former
    assert running.public() == Fleet(tmp_path).identity.public() == fleet.identity.public()


def test_without_its_keys_nothing_offline_is_changed(fleet: Fleet) -> None:
    fleet.trust.signers.offline.rename(fleet.trust.signers.offline.with_name("away"))
    before = fleet.trust.files()
    for change in (lambda: fleet.changes.rotate(["snapshot"], 0), lambda: fleet.changes.delegate(["digits"], 0)):
        with pytest.raises(MetadataFailed, match="export the change"):
            change()
    assert fleet.trust.files() == before


def test_a_lifetime_is_named_for_each_role() -> None:
    lives = Lifetimes()
    assert lives.of("timestamp") == timedelta(hours=24)
    assert lives.of("digits") == lives.model
