"""Which of the cloud's signing keys each role is given: those that it signs with, and it works with them alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloud.app import ROLES, Rooms, compose
from cloud.cli import littoral
from cloud.foundation.settings import CloudSettings
from cloud.identity import rules
from protos.kit.keys import KeysFailed
from tests import tiny_models
from tests.charts import named, render
from tests.trust_kit import DAY_MS, now_ms

GOOD = tiny_models.int8(tiny_models.weights())
NEEDED = {
    "api": {"deployment", "manifest", "metadata", "models"},
    "ingest": set(),
    "publisher": {"metadata", "models"},
    "controller": {"deployment"},
}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What `littoral keys secret` prints, by name."""
    folder = ["--dir", str(tmp_path_factory.mktemp("made") / "fleet")]
    for command in (["init"], ["delegate", "tiny"]):
        CliRunner().invoke(littoral, ["keys", *command, *folder], catch_exceptions=False)
    printed = CliRunner().invoke(littoral, ["keys", "secret", *folder], catch_exceptions=False).stdout
    return {one["metadata"]["name"]: one["data"] for one in json.loads(printed)["items"]}


def mounted(role: str) -> set[str]:
    """The names of the Secrets in the volume with keys of a role's pods."""
    pod = named(render("littoral", {}), "Deployment", f"littoral-{role}")["spec"]["template"]["spec"]
    volumes = [volume["projected"] for volume in pod["volumes"] if volume["name"] == "keys"]
    return {source["secret"]["name"] for volume in volumes for source in volume["sources"]}


@contextmanager
def running(role: str, folder: Path, secrets: dict[str, dict[str, str]]) -> Iterator[Rooms]:
    """A process of the role with the keys that the chart gives it, on the fleet's database; it adds none to them."""
    keys = folder / f"keys-of-{role}"
    keys.mkdir()
    for name in mounted(role):
        for file, data in secrets[name].items():
            (keys / file).write_bytes(base64.b64decode(data))
    before = sorted(keys.iterdir())
    settings = CloudSettings(
        dir=folder / role,
        database=f"sqlite:///{folder}/fleet.db",
        signing_keys=keys,
        offline_keys=folder / "none",
    )
    with compose(settings, frozenset({role})) as rooms:
        yield rooms
    assert sorted(keys.iterdir()) == before
    assert not list((folder / role).rglob("*.key"))


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_has_the_keys_that_it_signs_with_and_no_others(role: str) -> None:
    assert mounted(role) == {f"littoral-keys-{part}" for part in NEEDED[role]}


def test_the_chart_mounts_what_the_command_makes(secrets: dict[str, dict[str, str]]) -> None:
    assert set().union(*map(mounted, ROLES)) == set(secrets) == {f"littoral-keys-{part}" for part in rules.KEPT_APART}


@pytest.mark.parametrize("first", sorted(ROLES))
def test_whichever_role_is_the_first_all_come_up_and_are_one_fleet(
    first: str, tmp_path: Path, secrets: dict[str, dict[str, str]]
) -> None:
    for role in [first, *sorted(ROLES - {first})]:
        with running(role, tmp_path, secrets) as rooms:
            found = rooms.trust.files()
    root = base64.b64decode(secrets["littoral-keys-metadata"]["1.root.json"])
    assert root in [file.data for file in found if file.role == "root"]


def test_each_does_with_its_keys_what_it_is_for(tmp_path: Path, secrets: dict[str, dict[str, str]]) -> None:
    with running("api", tmp_path, secrets) as rooms:
        version = rooms.registry.register(tiny_models.manifest({"int8": GOOD}), {"int8": GOOD}, 1)
        before = rooms.trust.timestamp_version()
    with running("publisher", tmp_path, secrets) as rooms:
        assert rooms.trust.renew(now_ms() + 60 * DAY_MS) == []
        assert rooms.trust.timestamp_version() == before + 1
        assert version.manifest_digest.hex() in str(rooms.trust.file("2.tiny.json"))
    with running("controller", tmp_path, secrets) as rooms:
        assert rooms.rollouts.renew(now_ms()) == 0


def test_who_directs_can_list_no_version(tmp_path: Path, secrets: dict[str, dict[str, str]]) -> None:
    with running("controller", tmp_path, secrets) as rooms, pytest.raises(KeysFailed, match="signs no manifests"):
        rooms.registry.register(tiny_models.manifest({"int8": GOOD}), {"int8": GOOD}, 1)
