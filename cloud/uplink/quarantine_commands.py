"""`littoral quarantine`: what could not be stored, why, and another try, over the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import click
from rich.console import RenderableType

from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from protos.kit.settings import load, options

PATH = "/api/v1/quarantine"
PAGE = 1000

_number = click.IntRange(1)
_api_options = options(CloudSettings, only=("api",))
_device = click.option("--device", help="Of this device.")
_kind = click.option("--kind", type=click.Choice(["results", "events", "telemetry"]), help="Only of these.")


@click.group()
def quarantine() -> None:
    """Batches of results, events or telemetry that could not be stored.

    \b
    Example:
      littoral quarantine list
      littoral quarantine retry 7
    """


@quarantine.command("list")
@_device
@_kind
@click.option("--limit", type=click.IntRange(1, PAGE), default=100, show_default=True, help="Batches on a page.")
@click.option("--cursor", help="Go on behind a page, with the `next` that it ended with.")
@json_option
@_api_options
def list_command(*, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - as click hands them over
    """What was set aside, newest first, with the reasons.

    \b
    Examples:
      littoral quarantine list --device edge-1
      littoral quarantine list --kind results --limit 1000 --json
    """
    api = _api(given)
    emit(api.get(PATH, _said(given)), as_json, _draw)


@quarantine.command()
@click.argument("number", type=_number, metavar="ID")
@click.option("-o", "--output", type=click.File("wb", lazy=True), required=True, help="The file.")
@_api_options
def get(*, number: int, output: IO[bytes], **flags: Any) -> None:  # noqa: ANN401 - as click hands them over
    """Write the bytes of batch ID to a file, as they came.

    \b
    Example:
      littoral quarantine get 7 -o batch.bin
    """
    output.write(_api(flags).download(f"{PATH}/{number}/payload"))


@quarantine.command()
@click.argument("numbers", type=_number, nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All there are, or all of --device and --kind.")
@_device
@_kind
@json_option
@_api_options
def retry(*, numbers: tuple[int, ...], every: bool, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - as click hands them over
    """Store batches that can be stored by now, as when their model was registered after they came.

    They get the numbers that their device gave them, so each result is there once, and what the audit called
    quarantined is stored. What still cannot be stored stays, with the newest reason: the exit code is 1 then.

    \b
    Examples:
      littoral quarantine retry 7
      littoral quarantine retry --all --device edge-1
    """
    api = _api(given)
    asked = _said(given)
    if bool(numbers) == every or (asked and not every):
        raise click.UsageError("say which: either some IDs, or --all, which --device and --kind may narrow")
    chosen = _numbers(api, asked) if every else iter(numbers)
    tried = [api.post(f"{PATH}/{number}/retry") for number in chosen]
    emit(tried, as_json, _draw_tried)
    if any(one["reason"] for one in tried):
        click.get_current_context().exit(1)


@click.command("quarantine")
@click.argument("number", type=_number, metavar="[ID]", required=False)
@click.option("-o", "--output", type=click.File("wb", lazy=True), help="Write the bytes of batch ID to a file.")
@click.option("--limit", type=click.IntRange(1, PAGE), default=100, show_default=True, help="Batches listed.")
@json_option
@_api_options
@click.pass_context
def quarantine_command(  # the name it had before other kinds than results were set aside
    ctx: click.Context,
    /,
    *,
    number: int | None,
    output: IO[bytes] | None,
    limit: int,
    as_json: bool,
    **flags: Any,  # noqa: ANN401 - as click hands them over
) -> None:
    """The newest batches that could not be stored; or the bytes of one. `littoral quarantine` does more.

    \b
    Examples:
      littoral results quarantine
      littoral results quarantine 7 -o batch.bin
    """
    if (number is None) != (output is None):
        raise click.UsageError("ID and -o FILE belong together: which batch, and where its bytes shall be written")
    if output is not None:
        ctx.invoke(get, number=number, output=output, **flags)
        return
    found = _api(flags).get(PATH, {"limit": limit})
    emit(found["batches"], as_json, lambda _: _draw(found))


def _numbers(api: Api, asked: dict[str, Any]) -> Iterator[int]:
    """Of all batches that are there now, the oldest first: in the order in which they came."""
    found: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.get(PATH, asked | {"limit": PAGE} | cursor)
        found += [one["id"] for one in page["batches"]]
        if page["next"] is None:
            return reversed(found)
        cursor = {"cursor": page["next"]}


def _said(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _api(flags: dict[str, Any]) -> Api:
    return Api(load(CloudSettings, flags.pop("config"), {"api": flags.pop("api")}).api)


def _draw(found: dict[str, Any]) -> RenderableType:
    columns = ("id", "device", "kind", "first_seq", "count", "bytes", "reason")
    drawn = table("Quarantine", columns, [[one[name] for name in columns] for one in found["batches"]])
    drawn.caption = f"more: littoral quarantine list --cursor {found['next']}" if found["next"] else None
    drawn.caption_justify = "left"
    return drawn


def _draw_tried(tried: list[dict[str, Any]]) -> RenderableType:
    rows = [(one["id"], one["stored"], one["reason"]) for one in tried]
    return table("Tried again", ("id", "stored", "why not"), rows)
