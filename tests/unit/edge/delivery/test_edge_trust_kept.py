"""What a device knows of metadata survives kills and damage, and is never older than what it has seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from protos.kit import files
from tests.crashes import each_kill
from tests.trust_kit import Device, Fleet, Shelf

pytestmark = pytest.mark.forks


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    made.register("digits", 1)
    made.changes.renew(["root"], made.now_ms)
    return made


def test_a_kill_at_any_write_leaves_a_device_that_goes_on_and_forgets_no_version(tmp_path: Path, fleet: Fleet) -> None:
    folder, before = tmp_path / "metadata", tmp_path / "before"
    device = Device(before, fleet.root, Shelf(fleet.files()))
    device.check("digits", 1)
    fleet.register("digits", 2)
    newer = Device(folder, fleet.root, Shelf(fleet.files()))

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder, symlinks=True)

    for _ in each_kill(prepare, lambda: newer.check("digits", 2)):
        for path in folder.glob("*.json"):
            json.loads(path.read_bytes())
        timestamps = [json.loads((place / "timestamp.json").read_bytes()) for place in (before, folder)]
        assert timestamps[0]["signed"]["version"] <= timestamps[1]["signed"]["version"]
        newer.check("digits", 2)


def test_each_file_is_synced_before_it_takes_its_place(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def noted(path: Path, data: bytes) -> None:
        synced.append(path.name)
        files.write_durably(path, data)

    monkeypatch.setattr("edge.delivery.trust_client.write_durably", noted)
    folder = tmp_path / "metadata"
    Device(folder, fleet.root, Shelf(fleet.files())).check("digits", 1)
    assert {path.name for path in folder.rglob("*.json") if not path.is_symlink()} == set(synced)


def test_damaged_files_on_the_disk_are_fetched_again(tmp_path: Path, fleet: Fleet) -> None:
    device = Device(tmp_path / "metadata", fleet.root, Shelf(fleet.files()))
    device.check("digits", 1)
    for path in device.folder.rglob("*.json"):
        path.write_bytes(path.read_bytes()[:-1])
    device.check("digits", 1)
    assert device.alarms == []
