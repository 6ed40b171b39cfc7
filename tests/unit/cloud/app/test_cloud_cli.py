"""The `littoral` command: what it imports, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner

from cloud import cli
from cloud.cli import COMMANDS, Lazy, LazyGroup, littoral, main

HEAVY = ("tensorflow", "fastapi", "sqlalchemy", "grpc", "sklearn", "uvicorn", "httpx")


def group(**commands: Lazy) -> LazyGroup:
    return LazyGroup("littoral", lazy=commands)


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_help_lists_every_command_without_importing_what_is_heavy() -> None:
    program = (
        "import sys\nfrom cloud.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\nassert not heavy, heavy\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert "Example:" in shown


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(littoral, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "littoral " + name in shown.output
    assert "Example" in shown.output or name == "models"  # a group: its commands have theirs


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"train"}))
def test_only_train_imports_tensorflow(name: str) -> None:
    program = (
        "import sys\nfrom cloud.cli import COMMANDS\n"
        f"COMMANDS[{name!r}].load()\nassert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_commands_of_other_installed_packages_are_offered() -> None:
    assert "demo" in littoral.list_commands(click.Context(littoral))
    assert CliRunner().invoke(littoral, ["demo", "--help"]).exit_code == 0


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"littoral {version('littoral')}\n"


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("nonsense") == 2
    assert "No such command 'nonsense'" in capsys.readouterr().err


def test_a_wrong_setting_is_wrong_usage_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("serve", "--api-port", "99999") == 2
    assert "setting 'api_port' (flag --api-port) is '99999'" in capsys.readouterr().err


def test_an_expected_error_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("results", "summary", "--api", "http://127.0.0.1:9") == 1
    assert "is `littoral serve` running?" in capsys.readouterr().err


def test_an_extra_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "littoral", group(x=Lazy("not_there_either.commands", "x", "Nothing.")))
    assert exit_code("x") == 1
    assert "'not_there_either', which is not installed: pip install 'littoral[cloud]'" in capsys.readouterr().err


def test_an_extra_missing_only_when_the_command_runs_is_named_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def x() -> None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow.keras")

    monkeypatch.setattr(cli, "littoral", x)
    assert exit_code() == 1
    assert "needs the package 'tensorflow'" in capsys.readouterr().err


def test_a_module_of_our_own_that_is_missing_is_our_mistake() -> None:
    with pytest.raises(ModuleNotFoundError):
        group(x=Lazy("cloud.no_such_room", "x", "Nothing.")).get_command(click.Context(click.Group()), "x")


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def x() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "littoral", x)
    assert exit_code() == 130
    assert "Traceback" not in capsys.readouterr().err
