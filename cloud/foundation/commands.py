"""`littoral migrate`: the database of an older Littoral becomes one of this version."""

from __future__ import annotations

import time
from typing import Any

import click

from cloud.foundation.database import Database, DatabaseFailed, DatabaseSilent
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option
from protos.kit.settings import load, options

PAUSE_S = 1.0


@click.command()
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Ask a server that does not answer again for so long.",
)
@json_option
@options(CloudSettings, only=("dir", "database"))
def migrate(wait_s: float, as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
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
        before, now = _migrated(database, time.monotonic() + wait_s)
    except DatabaseFailed as error:
        raise click.ClickException(str(error)) from error
    database.close()
    done = {"database": str(database), "before": before or None, "version": now}
    emit(
        done,
        as_json,
        lambda _: f"{database}: version {now}, {'as before' if before == now else 'was ' + (before or 'without')}",
    )


def _migrated(database: Database, deadline_s: float) -> tuple[str, str]:
    while True:
        try:
            return database.migrate()
        except DatabaseSilent:
            if time.monotonic() + PAUSE_S > deadline_s:
                raise
            time.sleep(PAUSE_S)
