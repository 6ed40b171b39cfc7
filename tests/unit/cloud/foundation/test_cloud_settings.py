"""The cloud's settings: defaults that work on one machine, wrong values refused with name and reason."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from cloud.foundation.settings import CloudSettings
from protos.kit import settings


def test_the_defaults_keep_everything_in_one_folder(tmp_path: Path) -> None:
    chosen = settings.load(CloudSettings, flags={"dir": tmp_path})
    assert chosen.database_url == f"sqlite:///{tmp_path}/littoral.db"
    assert chosen.blobs.parent == tmp_path


def test_a_database_that_is_given_is_taken_as_it_is() -> None:
    assert CloudSettings(database="postgresql://host/name").database_url == "postgresql://host/name"


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in CloudSettings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("broker", "localhost:1883", "not of the form mqtt://"),
        ("broker_kind", "rabbit", "mosquitto"),
        ("api_port", "0", "greater than or equal to 1"),
        ("api_port", "70000", "less than or equal to 65535"),
        ("api", "localhost:8080", "http://"),
        ("log_level", "loud", "info"),
        ("ingest_rows", "none", "integer"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_the_reason(name: str, value: str, reason: str) -> None:
    with pytest.raises(click.UsageError, match=f"setting '{name}'.*{value}.*{reason}"):
        settings.load(CloudSettings, flags={name: value})
