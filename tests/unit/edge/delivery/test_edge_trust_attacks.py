"""The attacks that The Update Framework's specification lists (1.0.34, section 1.5.2), each tried on a device.

The attacker has the broker: it serves what he likes, and keeps back what he likes. What keys he has, each test says.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile, Targets

from cloud.identity.entities import Lifetimes
from edge.delivery.entities import NotDelivered, Rejected
from protos.topics import MAX_METADATA_BYTES
from protos.v1.metadata_pb2 import MetadataIndex
from tests.trust_kit import DAY_MS, HOUR_MS, Device, Fleet, Shelf, digest


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fleet with the models digits and letters, version 1 of each."""
    folder = tmp_path_factory.mktemp("registered") / "fleet"
    fleet = Fleet(folder)
    fleet.register("digits", 1)
    fleet.register("letters", 1)
    fleet.database.close()
    return folder


@pytest.fixture
def fleet(registered: Path, tmp_path: Path) -> Fleet:
    """That fleet, for one test."""
    shutil.copytree(registered, tmp_path / "fleet")
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def shelf(fleet: Fleet) -> Shelf:
    return Shelf(fleet.files())


@pytest.fixture
def device(tmp_path: Path, fleet: Fleet, shelf: Shelf) -> Device:
    """A device that is up to date."""
    made = Device(tmp_path / "metadata", fleet.root, shelf)
    made.check("digits", 1)
    return made


def test_without_an_attack_what_is_registered_is_believed(fleet: Fleet, shelf: Shelf, device: Device) -> None:
    fleet.register("digits", 2)
    shelf.files = fleet.files()
    device.check("digits", 2)
    assert (device.alarms, device.directors()) == ([], set(fleet.identity.public()["deployment"]))


# Arbitrary software installation: what no key of the fleet has signed.


def test_arbitrary_software_of_another_fleet_is_not_believed(tmp_path: Path, shelf: Shelf, device: Device) -> None:
    foreign = Fleet(tmp_path / "foreign")
    foreign.register("digits", 1, "evil")
    foreign.register("digits", 2, "evil")
    shelf.files = foreign.files()
    for version in (1, 2):
        with pytest.raises(NotDelivered, match="not believed"):
            device.check("digits", version, "evil")
    assert "not believed" in device.alarms[0]


def test_arbitrary_software_is_refused_though_the_director_asks_for_it(device: Device) -> None:
    with pytest.raises(Rejected, match="another manifest for digits version 1"):
        device.check("digits", 1, "evil")
    with pytest.raises(NotDelivered, match="does not list digits version 7"):
        device.check("digits", 7, "evil")


# Rollback: what was right once.


def test_a_rollback_is_noticed_also_over_a_restart(fleet: Fleet, shelf: Shelf, device: Device) -> None:
    old = shelf.files
    fleet.register("digits", 2)
    shelf.files = fleet.files()
    device.check("digits", 2)
    shelf.files = old
    with pytest.raises(NotDelivered, match=r"not believed.*version"):
        device.check("digits", 1)
    assert device.alarms


def test_a_rollback_of_the_snapshot_alone_is_noticed_though_the_timestamp_key_is_stolen(
    fleet: Fleet, shelf: Shelf, device: Device
) -> None:
    first = MetaFile(1)
    shelf.files["timestamp.json"] = fleet.forge(
        "timestamp", lambda it: vars(it).update(snapshot_meta=first, version=99)
    )
    with pytest.raises(NotDelivered, match=r"not believed.*snapshot version"):
        device.check("digits", 1)


# Fast-forward: versions raised so high that nothing newer can ever come.


def test_after_a_fast_forward_the_fleet_recovers_with_new_keys(fleet: Fleet, shelf: Shelf, device: Device) -> None:
    shelf.files["timestamp.json"] = fleet.forge("timestamp", lambda it: setattr(it, "version", 2**31))
    device.check("digits", 1)
    fleet.register("digits", 2)
    shelf.files = fleet.files()
    with pytest.raises(NotDelivered, match="not believed"):
        device.check("digits", 2)
    fleet.changes.rotate(["timestamp"], fleet.now_ms)
    shelf.files = fleet.files()
    device.check("digits", 2)
    assert device.alarms == []


# Indefinite freeze: the same for ever.


def test_a_freeze_is_noticed_when_the_timestamp_has_expired(shelf: Shelf, fleet: Fleet, device: Device) -> None:
    device.ahead_ms = 25 * HOUR_MS
    with pytest.raises(NotDelivered, match=r"expired at .* nothing new is installed"):
        device.check("digits", 1)
    assert "expired" in device.alarms[0]
    fleet.ahead_ms = 25 * HOUR_MS
    fleet.trust.renew(fleet.now_ms)
    shelf.files = fleet.files()
    device.check("digits", 1)
    assert device.alarms == []


def test_a_freeze_raises_the_alarm_also_where_nothing_is_heard_at_all(shelf: Shelf, device: Device) -> None:
    shelf.files = {"index": b""}
    with pytest.raises(NotDelivered):
        device.check("digits", 1)
    assert device.alarms == []  # it may be the link, and what is known still holds
    device.ahead_ms = 25 * HOUR_MS
    assert "expired" in device.trust().alarms[0]


def test_a_clock_at_1970_does_not_hide_a_freeze_from_a_deployment_that_is_dated(device: Device, fleet: Fleet) -> None:
    device.ahead_ms = -fleet.now_ms
    device.check("digits", 1, issued_ms=fleet.now_ms)
    with pytest.raises(NotDelivered, match="expired"):
        device.check("digits", 1, issued_ms=fleet.now_ms + 2 * DAY_MS)


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "digits"])
def test_whatever_part_of_the_metadata_has_expired_it_is_not_believed(tmp_path: Path, role: str) -> None:
    short = timedelta(seconds=-1)
    lives = {"root": {"offline": short}, "targets": {"offline": short}, "digits": {"model": short}}
    fleet = Fleet(tmp_path / "fleet", Lifetimes(**lives.get(role, {role: short})))
    fleet.register("digits", 1)
    device = Device(tmp_path / "metadata", fleet.root, Shelf(fleet.files()))
    with pytest.raises(NotDelivered, match="expired"):
        device.check("digits", 1)
    assert "expired" in device.alarms[0]


# Endless data. Slow and endless sources are in the tests of the sources themselves.


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "digits", "root"])
def test_endless_metadata_is_cut_off(tmp_path: Path, fleet: Fleet, role: str) -> None:
    fleet.changes.renew(["root"], fleet.now_ms)
    shelf = Shelf(fleet.files())
    shelf.files[fleet.newest(role)] += b" " * MAX_METADATA_BYTES
    with pytest.raises(NotDelivered, match="no fresh metadata"):
        Device(tmp_path / "metadata", fleet.root, shelf).check("digits", 1)


# Extraneous dependencies: a manifest is a whole; there is nothing else that it could ask a device to install.


def test_of_all_that_is_listed_only_what_was_asked_for_is_fetched(shelf: Shelf, device: Device) -> None:
    shelf.asked.clear()
    device.check("digits", 1)
    assert not [name for name in shelf.asked if "letters" in name]


def test_one_models_key_lists_nothing_for_another_model(fleet: Fleet, shelf: Shelf, device: Device) -> None:
    """Who has stolen the key of digits cannot get anything onto devices that run letters."""

    def add(role: Targets) -> None:
        role.targets |= dict.fromkeys(["letters/2", "director/keys.json"], role.targets["digits/1"])

    shelf.files[fleet.newest("digits")] = fleet.forge("digits", add)
    (device.folder / "digits.json").unlink()
    device.check("digits", 1)
    with pytest.raises(NotDelivered, match="does not list letters version 2"):
        device.check("letters", 2, "digits/1")
    assert device.directors() == set(fleet.identity.public()["deployment"])


# Mix-and-match: files that never were together.


@pytest.mark.parametrize("role", ["snapshot", "digits"])
def test_files_of_different_times_are_not_mixed(fleet: Fleet, shelf: Shelf, device: Device, role: str) -> None:
    former = fleet.files()[fleet.newest(role)]
    fleet.register("digits", 2)
    shelf.files = fleet.files() | {fleet.newest(role): former}
    with pytest.raises(NotDelivered, match="not believed"):
        device.check("digits", 2)
    shelf.files = fleet.files()
    device.check("digits", 2)


# Wrong software: genuine, but not what was meant.


def test_another_version_or_another_model_is_not_taken_for_the_one_asked_for(
    fleet: Fleet, shelf: Shelf, device: Device
) -> None:
    fleet.register("digits", 2)
    shelf.files = fleet.files()
    for other in ("digits/2", "letters/1"):
        with pytest.raises(Rejected, match="another manifest for digits version 1"):
            device.check("digits", 1, other)


# Malicious mirrors: one source that serves nothing, or something else, must not keep a device from the other.


@pytest.mark.parametrize("mirror", ["silent", "forged", "frozen", "expired"])
def test_a_malicious_broker_cannot_keep_away_what_the_api_has(tmp_path: Path, mirror: str) -> None:
    fleet = Fleet(tmp_path / "fleet", ahead_ms=-2 * DAY_MS if mirror == "expired" else 0)
    served = {"silent": {"index": b""}, "forged": Fleet(tmp_path / "foreign").files()}.get(mirror, fleet.files())
    fleet.ahead_ms = 0
    fleet.register("digits", 2)
    device = Device(tmp_path / "metadata", fleet.root, Shelf(served), Shelf(fleet.files()))
    device.check("digits", 2)
    assert device.alarms == []


# Key compromises: what each stolen key is good for, and how it ends.


def test_the_online_keys_alone_list_no_version(fleet: Fleet, shelf: Shelf, device: Device) -> None:
    """Snapshot and timestamp keys are on the server; with both, an attacker can still not make a target."""
    evil = fleet.forge("digits", lambda it: it.targets["digits/1"].hashes.update(sha256=digest("evil").hex()))
    shelf.files[fleet.newest("digits")] = evil.replace(b'"sig":"', b'"sig":"00')
    (device.folder / "digits.json").unlink()
    with pytest.raises(NotDelivered, match="not believed: digits was signed by 0/1 keys"):
        device.check("digits", 1, "evil")


def test_one_offline_key_of_two_that_are_needed_is_not_enough(fleet: Fleet, shelf: Shelf, device: Device) -> None:
    one = fleet.trust.signers.of("root")[:1]
    second = fleet.forge("root", lambda it: setattr(it, "version", 2), one)
    shelf.files |= {"2.root.json": second, "index": MetadataIndex(root=2).SerializeToString()}
    with pytest.raises(NotDelivered, match="root was signed by 1/2 keys"):
        device.check("digits", 1)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "digits", "targets", "root"])
def test_a_replaced_key_signs_nothing_any_more(fleet: Fleet, shelf: Shelf, device: Device, role: str) -> None:
    stolen = fleet.trust.signers.of(role)
    fleet.changes.rotate([role], fleet.now_ms)
    shelf.files = fleet.files() | {fleet.newest(role): fleet.forge(role, lambda _: None, stolen)}
    with pytest.raises(NotDelivered, match="not believed"):
        device.check("digits", 1)
    shelf.files = fleet.files()
    device.check("digits", 1)


def test_a_lost_director_key_is_replaced_by_metadata_alone(fleet: Fleet, shelf: Shelf, device: Device) -> None:
    former = device.directors()
    fleet.changes.rotate(["deployment"], fleet.now_ms)
    shelf.files = fleet.files()
    assert device.directors() == set(fleet.identity.public()["deployment"])
    assert device.directors().isdisjoint(former)


def test_a_device_that_slept_through_many_roots_follows_them_all(fleet: Fleet, shelf: Shelf, device: Device) -> None:
    for _ in range(5):
        fleet.changes.rotate(["root"], fleet.now_ms)
    fleet.register("digits", 2)
    shelf.files = fleet.files()
    device.check("digits", 2)
    assert "6.root.json" in shelf.asked


def test_all_expiries_lie_where_the_documentation_says(fleet: Fleet) -> None:
    now = datetime.now(UTC)
    days = {
        standing.role: round((standing.expires - now) / timedelta(days=1))
        for standing in fleet.changes.standings(fleet.now_ms)
    }
    assert days == {"root": 365, "targets": 365, "snapshot": 7, "timestamp": 1, "digits": 90, "letters": 90}
