"""`littoral migrate`: the database of an older Littoral becomes one of this version."""

from __future__ import annotations

from typing import Any

import click

from cloud.foundation.database import Database, DatabaseFailed
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option
from protos.kit.settings import load, options


@click.command()
@json_option
@options(CloudSettings, only=("dir", "database"))
def migrate(as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """Take the database to the version that this Littoral works with, all of it or nothing.

    A SQLite file is taken there by `littoral serve` itself; PostgreSQL only by this. Stop the cloud and make a backup
    first. Several at once wait for each other.

    \b
    Example:
      littoral migrate --database postgresql+psycopg://littoral@db/littoral
    """
    settings = load(CloudSettings, flags.pop("config"), flags)
    try:
        database = Database(settings.database_url)
        before, now = database.migrate()
    except DatabaseFailed as error:
        raise click.ClickException(str(error)) from error
    database.close()
    done = {"database": str(database), "before": before or None, "version": now}
    emit(
        done,
        as_json,
        lambda _: f"{database}: version {now}, {'as before' if before == now else 'was ' + (before or 'without')}",
    )
