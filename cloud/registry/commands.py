"""`littoral models`: what this machine's data folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.table import Table

from cloud.foundation.database import Database, DatabaseFailed
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from cloud.registry.entities import UnknownModel, described
from cloud.registry.kept import kept
from cloud.registry.service import Registry
from protos.kit import settings
from protos.v1.manifest_pb2 import Signed

HOW_TO_TRAIN = "No model is registered here yet. Train one: littoral train --data digits"

folder_options = settings.options(CloudSettings, only=["dir", "database", "artifacts"])


@click.group()
def models() -> None:
    """List and show registered model versions.

    \b
    Example:
      littoral models list
    """


@models.command("list")
@click.argument("model", required=False)
@folder_options
@json_option
def list_models(*, model: str | None, config: Path | None, as_json: bool, **flags: object) -> None:
    """List model versions, all or those of MODEL.

    \b
    Example:
      littoral models list
      littoral models list digits --json
    """
    registry = _registry(settings.load(CloudSettings, config, flags))
    versions = [described(version) for version in (registry.list(model) if registry else [])]
    if not versions and not as_json:
        click.echo(f"Model {model!r} is not registered here." if model and registry else HOW_TO_TRAIN)
        return
    emit(versions, as_json, _list_table)


@models.command("show")
@click.argument("model")
@click.argument("version", type=click.IntRange(min=1), required=False)
@folder_options
@json_option
def show_model(
    *,
    model: str,
    version: int | None,
    config: Path | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Show one VERSION of MODEL: files, accuracy, lineage. Without VERSION, the newest.

    \b
    Example:
      littoral models show digits 2
    """
    registry = _registry(settings.load(CloudSettings, config, flags))
    if registry is None:
        raise click.ClickException(HOW_TO_TRAIN)
    try:
        found = registry.latest(model) if version is None else registry.get(model, version)
    except UnknownModel as error:
        raise click.ClickException(str(error)) from error
    emit(described(found), as_json, _details)


def _registry(chosen: CloudSettings) -> Registry | None:
    """The registry in the data folder; None where there is none, so that looking makes nothing."""
    if not chosen.database and not chosen.dir.exists():
        return None
    try:
        database = Database(chosen.database_url)
        database.create()
    except DatabaseFailed as error:
        raise click.ClickException(str(error)) from error
    return Registry(database, kept(chosen, database), _no_signature)


def _no_signature(purpose: str, _: bytes) -> Signed:
    raise AssertionError(f"looking signs nothing, not even {purpose}")


def _list_table(versions: Sequence[dict[str, Any]]) -> Table:
    columns = ["model", "version", "accuracy float", "accuracy int8", "bytes", "created", "digest"]
    rows = [
        (
            version["model"],
            version["version"],
            _share(version["accuracy_float"]),
            _share(version["accuracy_int8"]),
            version["bytes"],
            _time(version["created_ms"]),
            version["digest"][:12],
        )
        for version in versions
    ]
    return table("Model versions", columns, rows)


def _details(version: dict[str, Any]) -> RenderableType:
    lineage = version["lineage"]
    facts = [
        ("manifest", version["manifest"]),
        ("created", _time(version["created_ms"])),
        ("accuracy float", _share(version["accuracy_float"])),
        ("accuracy int8", _share(version["accuracy_int8"])),
        ("data set", f"{lineage['dataset']} {lineage['dataset_digest'][:12]}"),
        ("code version", lineage["code_version"]),
        *lineage["parameters"].items(),
        *([("restarts", lineage["restarts"])] if lineage["restarts"] else []),
    ]
    columns = ["variant", "accuracy", "bytes", "transfer", "patches", "digest"]
    variants = [
        (
            each["name"],
            _share(each["accuracy"]),
            each["bytes"],
            each["transfer"],
            _patches(each["patches"]),
            each["digest"],
        )
        for each in version["variants"]
    ]
    return Group(
        table(f"{version['model']} version {version['version']}", ["fact", "value"], facts),
        table("Variants", columns, variants),
    )


def _patches(patches: Sequence[dict[str, Any]]) -> str:
    """What each costs a device that holds its base, in bytes."""
    return ", ".join(str(patch["transfer"]) for patch in patches) or "none"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
