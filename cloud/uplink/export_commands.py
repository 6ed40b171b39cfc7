"""`littoral results export`: results as a Parquet file, straight from the database."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cloud.foundation.database import Database, DatabaseFailed
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option
from cloud.uplink.entities import DAY_MS
from cloud.uplink.queries import Queries
from cloud.uplink.questions import Bucket, InvalidQuestion, Which
from cloud.uplink.sampled import SamplesOf
from protos.kit.settings import load, options

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def export_command(samples_of: SamplesOf) -> click.Command:
    """The command `export`. samples_of: tells which frames of the results their devices have sent."""

    @click.command("export")
    @click.option("--from", "from_", type=click.DateTime(_TIMES), required=True, help="Received at or after it (UTC).")
    @click.option("--to", type=click.DateTime(_TIMES), help="Received before it (UTC); without it: until now.")
    @click.option("--device", help="Only of this device.")
    @click.option("--model", help="Only of this model.")
    @click.option("--version", type=click.IntRange(1), help="Only of this version.")
    @click.option("--slot", help="Only of the model in this slot.")
    @click.option("--source", help="Only of this source of frames.")
    @click.option("--label", type=click.IntRange(0), help="Only with this class index.")
    @click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file.")
    @json_option
    @options(CloudSettings, only=("dir", "database"))
    def command(
        *,
        from_: datetime,
        to: datetime | None,
        output: Path,
        as_json: bool,
        **given: Any,  # noqa: ANN401 - as click hands them over
    ) -> None:
        """Write results as a Parquet file, oldest first, straight from the database. Memory stays flat.

        \b
        Example:
          littoral results export --from 2026-11-01 --to 2026-12-01 -o november.parquet
        """
        asked = {name: given.pop(name) for name in ("device", "model", "version", "slot", "source", "label")}
        settings = load(CloudSettings, given.pop("config"), given)
        which = Which(from_ms=_ms(from_), to_ms=_end_ms(to), **asked)
        rows = _export(settings.database_url, which, output, samples_of)
        done = {"file": str(output), "rows": rows, "bytes": output.stat().st_size}
        emit(done, as_json, lambda _: f"{rows:,} results in {output} ({done['bytes']:,} bytes)")

    return command


def _export(url: str, which: Which, output: Path, samples_of: SamplesOf) -> int:
    """Write the file, and show how far it is; returns how many results are in it. Raises click.ClickException."""
    from cloud.uplink.export import export  # noqa: PLC0415 - pyarrow is in an extra of its own

    try:
        database = Database(url)
        database.create()
        queries = Queries(database, samples_of)
        with _progress() as shown:
            task = shown.add_task("results", total=_expected(queries, which))
            rows = export(queries, which, output, lambda more: shown.update(task, advance=more))
            shown.update(task, total=rows)
        database.close()
    except (DatabaseFailed, InvalidQuestion, OSError) as error:
        raise click.ClickException(str(error)) from error
    return rows


def _end_ms(to: datetime | None) -> int:
    """No day is looked for that is still to come: people say "all" by the year 9999. Some servers' clocks are ahead."""
    now_ms = int(time.time() * 1000)
    return min(_ms(to), now_ms + DAY_MS) if to else now_ms


def _expected(queries: Queries, which: Which) -> int:
    """About how many there are, by the account."""
    return sum(one.results for one in queries.account(which, Bucket.DAY))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _ms(time_utc: datetime) -> int:
    return int(time_utc.replace(tzinfo=UTC).timestamp() * 1000)
