"""`littoral keys`: who signs what in this fleet, and how that is changed."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType

from cloud.foundation.database import Database, DatabaseFailed
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from cloud.identity import rules
from cloud.identity.changes import Changes, Standing, sign_draft
from cloud.identity.service import Identity
from cloud.identity.trust import OFFLINE_KEYS, THRESHOLD, FleetTrust
from protos.kit import logs, settings
from protos.kit.files import write_durably
from protos.kit.keys import KeysFailed

MAX_FILE_BYTES = 1024 * 1024

folder_options = settings.options(CloudSettings, only=["dir", "database", "signing_keys", "offline_keys"])


@click.group(epilog="Example: littoral keys list")
def keys() -> None:
    """The keys that devices trust: make, list, replace, delegate, sign offline."""


@keys.command(epilog="Example: littoral keys init --threshold 2 --keys 3 --offline-keys /media/stick/fleet")
@click.option(
    "--threshold", type=click.IntRange(1, 16), default=THRESHOLD, show_default=True, help="So many must sign."
)
@click.option(
    "--keys", "count", type=click.IntRange(1, 16), default=OFFLINE_KEYS, show_default=True, help="Of so many."
)
@folder_options
def init(*, threshold: int, count: int, config: Path | None, **flags: object) -> None:
    """Make a new fleet's keys: root and targets offline, snapshot and timestamp on the server.

    Without it the first start makes them. Then take the offline folder away from the server.
    """
    with _opened(config, flags, new=True) as trust:
        trust.create(threshold, count, _now_ms())
        click.echo(f"{threshold} of {count} offline keys each for root and targets: {trust.signers.offline}", err=True)


@keys.command("list", epilog="Example: littoral keys list --json")
@folder_options
@json_option
def list_keys(*, config: Path | None, as_json: bool, **flags: object) -> None:
    """List each role: its version, when it expires, its keys, and how many of them are on this machine."""
    with _opened(config, flags) as trust:
        found = Changes(trust).standings(_now_ms())
        emit([_described(standing) for standing in found], as_json, _drawn)


@keys.command(epilog="Example: littoral keys rotate deployment --offline-keys /media/stick/fleet")
@click.argument("names", metavar="ROLE...", nargs=-1, required=True)
@folder_options
def rotate(*, names: tuple[str, ...], config: Path | None, **flags: object) -> None:
    """Replace the keys of each ROLE: root, targets, snapshot, timestamp, deployment, or a model's name.

    From then on devices believe nothing that the former keys sign. It takes the offline keys. Keys that were lost
    together are replaced together.
    """
    with _opened(config, flags) as trust:
        Changes(trust).rotate(names, _now_ms())
        click.echo(f"{' and '.join(names)}: new keys, which devices follow by themselves", err=True)


@keys.command(epilog="Example: littoral keys delegate digits --offline-keys /media/stick/fleet")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@folder_options
def delegate(*, models: tuple[str, ...], config: Path | None, **flags: object) -> None:
    """Give each name MODEL a role and a key, so that versions of it can be registered. It takes the offline keys."""
    with _opened(config, flags) as trust:
        Changes(trust).delegate(models, _now_ms())
        click.echo(f"versions of {' and '.join(models)} can be registered", err=True)


@keys.command(epilog="Example: littoral keys renew root targets --offline-keys /media/stick/fleet")
@click.argument("roles", metavar="[root] [targets]", type=click.Choice(["root", "targets"]), nargs=-1, required=True)
@folder_options
def renew(*, roles: tuple[str, ...], config: Path | None, **flags: object) -> None:
    """Sign root or targets anew before they expire. It takes the offline keys."""
    with _opened(config, flags) as trust:
        Changes(trust).renew(roles, _now_ms())
        click.echo(f"signed anew: {' and '.join(roles)}", err=True)


@keys.command(epilog="Example: littoral keys export change.json delegate digits")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("change", type=click.Choice(["rotate", "delegate", "renew"]))
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@folder_options
def export(*, file: Path, change: str, names: tuple[str, ...], config: Path | None, **flags: object) -> None:
    """Write to FILE what is to be signed for a change, where the offline keys are on another machine.

    Nothing is changed until it is signed there (littoral keys sign) and imported here (littoral keys import).
    """
    with _opened(config, flags) as trust:
        write_durably(file, Changes(trust).export(change, names, _now_ms()))
        click.echo(f"sign it where the offline keys are: littoral keys sign {file} --offline-keys FOLDER", err=True)


@keys.command(epilog="Example: littoral keys sign change.json --offline-keys /media/stick/fleet")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--offline-keys",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with some of the offline keys.",
)
def sign(file: Path, folder: Path) -> None:
    """Add the signatures of the offline keys in a folder to FILE. It needs no data folder and no network."""
    try:
        signed, count = sign_draft(_read(file), folder)
        write_durably(file, signed)
    except (KeysFailed, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"signed with {count} keys; when enough have signed: littoral keys import {file}", err=True)


@keys.command("import", epilog="Example: littoral keys import change.json")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@folder_options
def import_(*, file: Path, config: Path | None, **flags: object) -> None:
    """Put a change from a signed FILE into force. Refused unless enough offline keys have signed it."""
    with _opened(config, flags) as trust:
        role = Changes(trust).accept(_read(file), _now_ms())
        click.echo(f"new {role} metadata is in force", err=True)


@keys.command(epilog="Example: littoral keys secret --dir fleet | kubectl apply -f -")
@click.option("--name", default="littoral-keys", show_default=True, help="What the Secrets' names begin with.")
@folder_options
def secret(*, name: str, config: Path | None, **flags: object) -> None:
    """Print the server's keys as Kubernetes Secrets, with the metadata that a cloud on an empty database begins with.

    One Secret for each thing that is signed: deployments, manifests, models' lists, the fleet's metadata. The offline
    keys are in none: they stay where they are.
    """
    with _opened(config, flags) as trust:
        files = {path.name: path.read_bytes() for path in trust.signers.online()} | trust.founding()
        found = [_secret(name, part, files) for part in rules.KEPT_APART]
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": found}, indent=2))


def _secret(name: str, part: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    own = {key: base64.b64encode(files[key]).decode() for key in sorted(files) if rules.kept_with(key) == part}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{name}-{part}"},
        "type": "Opaque",
        "data": own,
    }


@contextmanager
def _opened(config: Path | None, flags: dict[str, Any], *, new: bool = False) -> Iterator[FleetTrust]:
    chosen = settings.load(CloudSettings, config, flags)
    logs.configure(chosen.log_level)
    if not new and not chosen.dir.is_dir():
        raise click.ClickException(f"there is no data folder {chosen.dir}: name it with --dir, or littoral keys init")
    try:
        chosen.dir.mkdir(parents=True, exist_ok=True)
        database = Database(chosen.database_url)
        database.create()
        try:
            yield FleetTrust.of(chosen, database, Identity(chosen.dir, chosen.signing_keys))
        finally:
            database.close()
    except (DatabaseFailed, KeysFailed, OSError) as error:
        raise click.ClickException(str(error)) from error


def _read(file: Path) -> bytes:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise click.ClickException(f"{file} is larger than any exported change")
    return file.read_bytes()


def _described(standing: Standing) -> dict[str, Any]:
    return {**asdict(standing), "expires": standing.expires.isoformat()}


def _drawn(found: Sequence[dict[str, Any]]) -> RenderableType:
    columns = ("role", "version", "expires", "must sign", "keys here", "keys")
    return table("Roles", columns, [_row(role) for role in found])


def _row(role: dict[str, Any]) -> list[object]:
    return [
        role["role"],
        role["version"],
        role["expires"][:16],
        f"{role['threshold']} of {len(role['keys'])}",
        role["here"],
        " ".join(key[:12] for key in role["keys"]),
    ]


def _now_ms() -> int:
    return int(time.time() * 1000)
