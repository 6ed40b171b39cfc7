from pathlib import Path
from typing import Annotated, Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from protos.kit import settings
from protos.kit.settings import Labels


class Oven(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OVEN_", extra="forbid")

    heat: Annotated[int, Field(ge=0)] = Field(default=180, description="Degrees Celsius.")
    name: str = Field(
        default_factory=lambda: "drawn by lot",
        description="What it is called.",
        json_schema_extra={settings.SHOWN_DEFAULT: "the host's name"},
    )
    fan: bool = Field(default=False, description="Whether air is moved.")
    mode: Literal["bake", "grill"] = Field(default="bake", description="Where heat comes from.")
    labels: Labels = Field(default_factory=dict, description="What it is selected by.")
    steps: list[int] = Field(default_factory=list, description="Degrees one after the other.")
    bowl_size: float = Field(default=1.5, description="Litres.")


def config(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "oven.toml"
    file.write_text(text)
    return file


def complaint(file: Path | None = None, **flags: object) -> str:
    with pytest.raises(click.UsageError) as caught:
        settings.load(Oven, file, flags)
    return caught.value.message


def test_defaults_hold_when_nothing_is_given() -> None:
    assert settings.load(Oven).heat == 180


def test_the_file_overrides_the_default(tmp_path: Path) -> None:
    assert settings.load(Oven, config(tmp_path, "heat = 200")).heat == 200


@pytest.mark.parametrize("variable", ["OVEN_HEAT", "oven_heat"])
def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "210")
    assert settings.load(Oven, config(tmp_path, "heat = 200")).heat == 210


def test_flags_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_HEAT", "210")
    assert settings.load(Oven, flags={"heat": "220", "mode": None}).heat == 220


def test_a_broken_value_in_the_environment_is_harmless_when_a_flag_overrides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OVEN_HEAT", "hot")
    assert settings.load(Oven, flags={"heat": "220"}).heat == 220


def test_every_wrong_setting_is_named_with_its_place_value_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVEN_HEAT", "hot")
    file = config(tmp_path, 'mode = "fry"')
    lines = complaint(file, bowl_size="big").splitlines()
    assert len(lines) == 3
    assert "'heat' (environment variable OVEN_HEAT) is 'hot'" in lines[0]
    assert f"'mode' (settings file {file}) is 'fry'" in lines[1]
    assert "'bowl_size' (flag --bowl-size) is 'big'" in lines[2]


@pytest.mark.parametrize("name", ["haet", "_env_file"])
def test_an_unknown_setting_in_the_file_is_named(tmp_path: Path, name: str) -> None:
    file = config(tmp_path, f"{name} = 3")
    assert f"setting {name!r} (settings file {file}) does not exist" in complaint(file)


def test_a_file_that_is_not_toml_is_named_with_the_reason(tmp_path: Path) -> None:
    file = config(tmp_path, "heat == 3")
    assert f"settings file {file} cannot be read" in complaint(file)


def test_a_mapping_in_the_environment_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_STEPS", "100;200")
    assert "environment variable OVEN_STEPS is '100;200': not JSON" in complaint()


@pytest.mark.parametrize("text", ["room=kitchen,shelf=2", " room = kitchen , shelf=2,"])
def test_labels_come_as_pairs_from_flags_and_environment(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    wanted = {"room": "kitchen", "shelf": "2"}
    assert settings.load(Oven, flags={"labels": text}).labels == wanted
    monkeypatch.setenv("OVEN_LABELS", text)
    assert settings.load(Oven).labels == wanted


@pytest.mark.parametrize("text", ['labels = "room=kitchen"', '[labels]\nroom = "kitchen"'])
def test_labels_come_as_text_or_table_from_the_file(tmp_path: Path, text: str) -> None:
    assert settings.load(Oven, config(tmp_path, text)).labels == {"room": "kitchen"}


def test_no_labels_are_an_empty_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_LABELS", "")
    assert settings.load(Oven).labels == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kitchen", "'kitchen' has no '='"),
        ("=kitchen", "key ''"),
        ("room=", "value of 'room' ''"),
        ("room=a b", "value of 'room' 'a b'"),
        ("room=a,room=b", "given twice"),
        (",".join(f"k{i}=v" for i in range(65)), "65 labels are too many"),
    ],
)
def test_wrong_labels_in_the_environment_are_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setenv("OVEN_LABELS", text)
    message = complaint()
    assert "environment variable OVEN_LABELS" in message
    assert reason in message


@pytest.mark.parametrize(("text", "reason"), [("labels = 3", "k=v,k=v"), ("[labels]\nshelf = 2", "must be text")])
def test_wrong_labels_in_the_file_are_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    message = complaint(config(tmp_path, text))
    assert "'labels' (settings file" in message
    assert reason in message


def test_a_command_gets_one_flag_for_each_setting_and_one_for_the_file(tmp_path: Path) -> None:
    @click.command()
    @settings.options(Oven)
    def bake(config: Path | None, **flags: object) -> None:
        click.echo(settings.load(Oven, config, flags).model_dump_json())

    file = config(tmp_path, "heat = 200")
    result = CliRunner().invoke(bake, ["--config", str(file), "--fan", "--bowl-size", "2", "--labels", "a=b"])
    assert result.exit_code == 0, result.output
    oven = Oven.model_validate_json(result.stdout)
    assert (oven.heat, oven.fan, oven.bowl_size, oven.labels) == (200, True, 2.0, {"a": "b"})
    assert CliRunner().invoke(bake, ["--heat", "-1"]).exit_code == 2


def test_help_shows_meaning_choices_and_default_but_no_default_of_this_machine() -> None:
    @click.command()
    @settings.options(Oven, only=["heat", "mode", "name"])
    def bake() -> None: ...

    text = " ".join(CliRunner().invoke(bake, ["--help"]).stdout.split())
    assert "Degrees Celsius. [default: 180]" in text
    assert "[bake|grill]" in text
    assert "[default: the host's name]" in text
    assert "drawn by lot" not in text
    assert "--fan" not in text


def test_the_table_has_a_row_for_each_setting() -> None:
    rows = settings.table(Oven).splitlines()
    assert len(rows) == 2 + len(Oven.model_fields)
    assert "| `bowl_size` | `OVEN_BOWL_SIZE` | `--bowl-size` | `1.5` | Litres. |" in rows
    assert "| `name` | `OVEN_NAME` | `--name` | the host's name | What it is called. |" in rows
