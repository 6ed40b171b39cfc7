"""Settings from defaults, a TOML file, the environment and flags, the later overriding the earlier.

A wrong value is refused at the start, with its name, its value and the reason.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

S = TypeVar("S", bound=BaseSettings)
Command = TypeVar("Command", bound=Callable[..., Any])


def load(kind: type[S], file: Path | None = None, flags: Mapping[str, object] | None = None) -> S:
    """Settings of `kind`. Raises click.UsageError that names each wrong setting, its value and the reason.

    Flags that are None or empty were not given.
    """
    prefix = kind.model_config.get("env_prefix", "")
    from_file = _read(file) if file else {}
    given = {name: value for name, value in (flags or {}).items() if value not in (None, ())}
    in_environment = {name for name in kind.model_fields if f"{prefix}{name}".upper() in os.environ}
    try:
        return kind(**{name: value for name, value in from_file.items() if name not in in_environment} | given)
    except ValidationError as error:
        raise click.UsageError("\n".join(_complaints(error, prefix, from_file, given))) from error


def options(kind: type[BaseSettings], only: Iterable[str] | None = None) -> Callable[[Command], Command]:
    """A decorator that gives a command one flag for each setting of `kind` (or for those in `only`), and `--config`."""
    chosen = list(only) if only is not None else list(kind.model_fields)

    def decorate(command: Command) -> Command:
        for name in reversed(chosen):
            command = _option(name, kind.model_fields[name])(command)
        help_text = "TOML file with settings; the environment and flags override it."
        return click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=help_text)(
            command
        )

    return decorate


def table(kind: type[BaseSettings]) -> str:
    """The settings as a Markdown table, for the documentation."""
    prefix = str(kind.model_config.get("env_prefix", ""))
    rows = ["| setting | environment | flag | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, field in kind.model_fields.items():
        default = (
            "" if field.default is None or field.default == "" else f"`{field.get_default(call_default_factory=True)}`"
        )
        rows.append(f"| `{name}` | `{(prefix + name).upper()}` | `--{_flag(name)}` | {default} | {field.description} |")
    return "\n".join(rows)


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    default = field.get_default(call_default_factory=True)
    text = f"{field.description}" + (f" [default: {default}]" if default not in (None, "", {}, ()) else "")
    if field.annotation is bool:
        return click.option(f"--{_flag(name)}/--no-{_flag(name)}", name, default=None, help=text)
    return click.option(f"--{_flag(name)}", name, default=None, help=text, metavar="VALUE")


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise click.UsageError(f"settings file {file} cannot be read: {error}") from error


def _complaints(
    error: ValidationError, prefix: str, from_file: Mapping[str, object], given: Mapping[str, object]
) -> list[str]:
    lines = []
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        if name in given:
            place = f"flag --{_flag(name)}"
        elif f"{prefix}{name}".upper() in os.environ:
            place = f"environment variable {(prefix + name).upper()}"
        else:
            place = "settings file" if name in from_file else "default"
        reason = problem["msg"].removeprefix("Value error, ")
        lines.append(f"setting {name!r} ({place}) is {problem['input']!r}: {reason}")
    return lines
