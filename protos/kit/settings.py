"""Settings from defaults, a TOML file, the environment and flags, the later overriding the earlier.

A wrong value is refused at the start, with its name, its value and the reason.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import BeforeValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import BaseSettings, NoDecode, SettingsError

S = TypeVar("S", bound=BaseSettings)
Command = TypeVar("Command", bound=Callable[..., Any])

SHOWN_DEFAULT = "shown_default"
"""Key in a field's json_schema_extra: words for a default that depends on the machine or on another setting."""

REMEDY = "remove it or correct its name"
MAX_LABELS = 64
_LABEL_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")


def labels_from(value: object) -> dict[str, str]:
    """Labels from `k=v,k=v` (environment, flags, TOML) or a table (TOML). Raises ValueError that says what is wrong."""
    if isinstance(value, str):
        pairs = [_label(part.strip()) for part in value.split(",") if part.strip()]
    elif isinstance(value, Mapping):
        pairs = [(str(key), _text(key, text)) for key, text in value.items()]
    else:
        raise ValueError("labels are given as k=v,k=v, in a settings file also as a table")  # noqa: TRY004 - pydantic reports ValueErrors
    labels = {_checked_label(key, "key"): _checked_label(text, f"value of {key!r}") for key, text in pairs}
    if len(labels) < len(pairs):
        raise ValueError("a label is given twice")
    if len(labels) > MAX_LABELS:
        raise ValueError(f"{len(labels)} labels are too many: at most {MAX_LABELS}")
    return labels


# NoDecode: pydantic-settings would read the environment variable of a mapping as JSON.
Labels = Annotated[dict[str, str], NoDecode, BeforeValidator(labels_from)]
"""The type of a setting that holds labels."""


def load(kind: type[S], file: Path | None = None, flags: Mapping[str, object] | None = None) -> S:
    """Settings of `kind`. Raises click.UsageError that names each wrong setting, its value and the reason.

    Flags that are None or empty were not given.
    """
    from_file = _read(file) if file else {}
    given = {name: value for name, value in (flags or {}).items() if value not in (None, ())}
    in_environment = _in_environment(kind)
    values: dict[str, Any] = {name: value for name, value in from_file.items() if name not in in_environment}
    try:
        return kind(**values | given)
    except ValidationError as error:
        places = _places(file, from_file, in_environment, given)
        raise click.UsageError("\n".join(_complaint(problem, places) for problem in error.errors())) from error
    except SettingsError as error:
        raise click.UsageError(_undecodable(error, in_environment)) from error


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
    rows = ["| setting | environment | flag | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, field in kind.model_fields.items():
        default = _default_text(field)
        shown = f"`{default}`" if default and not _extra(field).get(SHOWN_DEFAULT) else default
        rows.append(f"| `{name}` | `{_variable(kind, name)}` | `--{_flag(name)}` | {shown} | {field.description} |")
    return "\n".join(rows)


def _label(part: str) -> tuple[str, str]:
    key, equals, text = part.partition("=")
    if not equals:
        raise ValueError(f"{part!r} has no '=': labels are given as k=v,k=v")
    return key.strip(), text.strip()


def _text(key: object, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"value of {key!r} must be text, in quotes, not {value!r}")  # noqa: TRY004 - pydantic reports ValueErrors
    return value


def _checked_label(text: str, what: str) -> str:
    if not _LABEL_PART.fullmatch(text):
        raise ValueError(
            f"{what} {text!r}: use 1 to 63 letters, digits, '-', '_', '.' or '/', "
            "beginning and ending with a letter or digit"
        )
    return text


def _variable(kind: type[BaseSettings], name: str) -> str:
    return f"{kind.model_config.get('env_prefix', '')}{name}".upper()


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _in_environment(kind: type[BaseSettings]) -> dict[str, str]:
    """Name of each setting that the environment gives, and the variable's name."""
    ignore_empty = kind.model_config.get("env_ignore_empty", False)
    given = {variable.upper() for variable, value in os.environ.items() if value or not ignore_empty}
    return {name: _variable(kind, name) for name in kind.model_fields if _variable(kind, name) in given}


def _option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    default = _default_text(field)
    text = f"{field.description}" + (f" [default: {default}]" if default else "")
    if field.annotation is bool:
        return click.option(f"--{_flag(name)}/--no-{_flag(name)}", name, default=None, help=text)
    return click.option(f"--{_flag(name)}", name, default=None, help=text, metavar=_metavar(field))


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "[" + "|".join(str(choice) for choice in get_args(field.annotation)) + "]"
    return "K=V,K=V" if get_origin(field.annotation) is dict else "VALUE"


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _default_text(field: FieldInfo) -> str:
    shown = _extra(field).get(SHOWN_DEFAULT)
    if shown or field.default_factory is not None:
        return str(shown or "")
    return "" if field.default in (None, "", PydanticUndefined) else str(field.default)


def _read(file: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise click.UsageError(f"settings file {file} cannot be read: {error}") from error
    for name in values:
        if name.startswith("_"):  # pydantic-settings takes such names as orders to itself
            raise click.UsageError(f"setting {name!r} (settings file {file}) does not exist: {REMEDY}")
    return values


def _places(
    file: Path | None,
    from_file: Mapping[str, object],
    in_environment: Mapping[str, str],
    given: Mapping[str, object],
) -> dict[str, str]:
    """Where each setting's value came from, in words; a setting that is not named has its default."""
    return (
        dict.fromkeys(from_file, f"settings file {file}")
        | {name: f"environment variable {variable}" for name, variable in in_environment.items()}
        | {name: f"flag --{_flag(name)}" for name in given}
    )


def _complaint(problem: ErrorDetails, places: Mapping[str, str]) -> str:
    reason = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return f"settings do not fit together: {reason}"
    name = str(problem["loc"][0])
    place = places.get(name, "default")
    if problem["type"] == "extra_forbidden":
        return f"setting {name!r} ({place}) does not exist: {REMEDY}"
    if problem["type"] == "missing":
        return f"setting {name!r} has no value: give it with --{_flag(name)}"
    return f"setting {'.'.join(map(str, problem['loc']))!r} ({place}) is {problem['input']!r}: {reason}"


def _undecodable(error: SettingsError, in_environment: Mapping[str, str]) -> str:
    # pydantic-settings names the field in its message alone.
    found = re.search(r'field "(\w+)"', str(error))
    variable = in_environment.get(found.group(1)) if found else None
    if variable is None:
        return f"settings cannot be read from the environment: {error}"
    return f"environment variable {variable} is {os.environ.get(variable)!r}: not JSON ({error.__cause__})"
