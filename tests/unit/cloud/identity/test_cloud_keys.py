"""`littoral keys`, as people type it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloud.cli import littoral


class Person:
    """Types `littoral keys` in front of one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.offline = folder / "cloud-offline-keys"

    def tries(self, *words: str) -> Result:
        data = [] if words[0] == "sign" else ["--dir", str(self.folder / "cloud")]
        return CliRunner().invoke(littoral, ["keys", *words, *data])

    def types(self, *words: str) -> str:
        done = self.tries(*words)
        assert done.exit_code == 0, done.output
        return done.stdout

    def fails(self, *words: str) -> str:
        done = self.tries(*words)
        assert done.exit_code == 1, done.output
        return done.output

    def roles(self) -> dict[str, dict[str, object]]:
        return {role["role"]: role for role in json.loads(self.types("list", "--json"))}


@pytest.fixture
def person(tmp_path: Path) -> Person:
    made = Person(tmp_path)
    made.types("init", "--threshold", "2", "--keys", "2")
    return made


def test_a_new_fleet_has_the_keys_that_were_asked_for(person: Person) -> None:
    roles = person.roles()
    assert list(roles) == ["root", "targets", "snapshot", "timestamp"]
    assert [(role["threshold"], len(role["keys"]), role["here"]) for role in roles.values()] == [  # type: ignore[arg-type]
        (2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1),
    ]  # fmt: skip


def test_a_fleet_is_made_once(person: Person) -> None:
    assert "has metadata already" in person.fails("init")


def test_a_threshold_above_the_keys_is_refused(tmp_path: Path) -> None:
    assert "3 of 2 keys cannot sign for root" in Person(tmp_path).fails("init", "--threshold", "3", "--keys", "2")


def test_where_no_fleet_is_the_list_says_how_to_make_one(tmp_path: Path) -> None:
    assert "littoral keys init" in Person(tmp_path).fails("list")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "cloud").mkdir()
    assert "littoral keys init makes them" in Person(tmp_path).fails("list")


def test_the_list_for_people_shows_thresholds_and_what_is_here(person: Person) -> None:
    person.offline.rename(person.folder / "stick")
    (row,) = [line for line in person.types("list").splitlines() if "targets" in line]
    assert [cell.strip() for cell in row.split("│")][4:6] == ["2 of 2", "0"]


def test_a_model_is_delegated_once_and_its_key_can_be_replaced(person: Person) -> None:
    person.types("delegate", "digits")
    first = person.roles()["digits"]
    assert "littoral keys rotate digits" in person.fails("delegate", "digits")
    person.types("rotate", "digits")
    assert (first["version"], person.roles()["digits"]["version"]) == (1, 2)
    assert first["keys"] != person.roles()["digits"]["keys"]


def test_a_change_is_signed_on_another_machine_by_as_many_as_must(person: Person) -> None:
    person.offline.rename(person.folder / "stick")
    change = person.folder / "change.json"
    person.types("export", str(change), "delegate", "digits")
    halves = [person.folder / name for name in ("alice", "bob")]
    for number, half in enumerate(halves, 1):
        half.mkdir()
        key = f"targets-{number}.key"
        (half / key).write_bytes((person.folder / "stick" / key).read_bytes())
        assert "targets was signed by" in person.fails("import", str(change))
        person.types("sign", str(change), "--offline-keys", str(half))
    person.types("import", str(change))
    assert person.roles()["digits"]["version"] == 1
    assert "export it and sign it again" in person.fails("import", str(change)).lower()


def test_a_root_is_renewed_and_a_timestamp_key_replaced_over_the_same_way(person: Person) -> None:
    before = person.roles()
    for change in (("renew", "root"), ("rotate", "timestamp")):
        file = person.folder / "change.json"
        person.types("export", str(file), *change)
        person.types("sign", str(file), "--offline-keys", str(person.offline))
        person.types("import", str(file))
    after = person.roles()
    assert (after["root"]["version"], after["root"]["keys"]) == (3, before["root"]["keys"])
    assert after["timestamp"]["keys"] != before["timestamp"]["keys"]


def test_keys_that_were_lost_together_are_replaced_together(person: Person) -> None:
    person.types("delegate", "digits")
    shutil.rmtree(person.folder / "cloud" / "keys")
    assert "littoral keys rotate timestamp" in person.fails("rotate", "snapshot")
    person.types("rotate", "snapshot", "timestamp", "deployment", "digits")
    assert {name: role["here"] for name, role in person.roles().items()} == {
        "root": 2, "targets": 2, "snapshot": 1, "timestamp": 1, "digits": 1,
    }  # fmt: skip


def test_several_keys_in_one_file_of_metadata_are_exported_together(person: Person) -> None:
    file = person.folder / "change.json"
    person.types("export", str(file), "rotate", "snapshot", "timestamp")
    assert "export them one by one" in person.fails("export", str(file), "rotate", "snapshot", "deployment")


def test_what_is_no_exported_change_is_neither_signed_nor_imported(person: Person) -> None:
    file = person.folder / "change.json"
    file.write_text("{}")
    assert "no exported change" in person.fails("sign", str(file), "--offline-keys", str(person.offline))
    assert "no exported change" in person.fails("import", str(file))
    file.write_bytes(bytes(2 * 1024 * 1024))
    assert "larger than any" in person.fails("import", str(file))


def test_a_folder_without_the_keys_signs_nothing(person: Person) -> None:
    file = person.folder / "change.json"
    person.types("export", str(file), "renew", "root")
    (person.folder / "empty").mkdir()
    assert "no keys for root" in person.fails("sign", str(file), "--offline-keys", str(person.folder / "empty"))


def test_a_name_without_a_key_is_refused_with_those_that_have_one(person: Person) -> None:
    assert "root, targets, snapshot, timestamp, deployment" in person.fails("rotate", "nobody")


def test_new_root_keys_are_made_where_the_old_ones_are(person: Person) -> None:
    assert "littoral keys rotate root" in person.fails("export", "x.json", "rotate", "root")
    person.types("rotate", "root")
    assert sorted(path.name for path in person.offline.glob("root-*")) == ["root-3.key", "root-4.key"]


@pytest.mark.parametrize("command", ["init", "list", "rotate", "delegate", "renew", "export", "sign", "import"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = CliRunner().invoke(littoral, ["keys", command, "--help"])
    assert f"Example: littoral keys {command}" in shown.output
