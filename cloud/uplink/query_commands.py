"""`littoral results list | aggregates | follow | consumers`: results and their account, over the API."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click
from rich.console import RenderableType

from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from protos.kit.settings import load, options
from protos.topics import DEFAULT_SLOT

FOLLOW_WAIT_S = 20
_NAMES = ("device", "source", "slot", "model", "version", "label")
_Command = Callable[..., None]


def which(command: _Command) -> _Command:
    """The options that say which results are meant."""
    said = (
        click.option("--device", help="Of this device."),
        click.option("--source", help="Of this source of frames."),
        click.option("--model", help="Of this model."),
        click.option("--version", type=click.IntRange(1), help="Of this version."),
        click.option("--slot", help="Of the model in this slot."),
        click.option("--label", type=click.IntRange(0), help="With this class index."),
        click.option("--from", "from_", metavar="TIME", help="Received at or after it: 2026-11-25T14:00 (UTC)."),
        click.option("--to", metavar="TIME", help="Received before it."),
    )
    for option in reversed(said):
        command = option(command)
    return command


@click.command("list")
@which
@click.option("--frame", type=click.IntRange(0), help="Of this frame of a device's source.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="With at least this confidence.")
@click.option("--max-confidence", type=click.FloatRange(0, 1), help="With at most this confidence.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Results on a page.")
@click.option("--cursor", help="Go on behind a page, with the `next` that it ended with.")
@json_option
@options(CloudSettings, only=("api",))
def list_command(as_json: bool, **given: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """Results, newest first.

    \b
    Examples:
      littoral results list --device edge-1 --label 7 --max-confidence 0.6
      littoral results list --device edge-1 --source sensor --frame 4711
      littoral results list --from 2026-11-25T14:00 --to 2026-11-25T15:00 --limit 1000 --json
    """
    api, asked = _asked(given)
    emit(api.get("/api/v1/results", asked), as_json, draw_results)


@click.command()
@which
@click.option("--bucket", type=click.Choice(["minute", "hour", "day"]), default="hour", show_default=True)
@click.option(
    "--group", type=click.Choice(["device", "version", "label", "slot"]), multiple=True, help="Tell apart by it."
)
@json_option
@options(CloudSettings, only=("api",))
def aggregates(as_json: bool, **given: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """Counts, confidence and latency by time, oldest first. Of millions of results it reads none: it is kept ready.

    \b
    Examples:
      littoral results aggregates --bucket day --group version
      littoral results aggregates --device edge-1 --from 2026-11-25 --bucket minute --json
    """
    api, asked = _asked(given)
    emit(api.get("/api/v1/results/aggregates", asked), as_json, _draw_aggregates)


@click.command()
@click.argument("name")
@click.option(
    "--start",
    type=click.Choice(["earliest", "latest"]),
    default="earliest",
    show_default=True,
    help="Where NAME begins if it is new: with all results that are kept, or with those to come.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True, help="Results in one reading.")
@click.option("--once", is_flag=True, help="End when nothing more follows.")
@options(CloudSettings, only=("api",))
def follow(name: str, start: str, limit: int, once: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as above
    """Print every result as a line of JSON, as consumer NAME, and go on where it last ended.

    What is printed is acknowledged afterwards: after a kill some lines may come again, none is missing.

    \b
    Example:
      littoral results follow billing | ./my-program
    """
    api = _api(flags)
    api.post("/api/v1/consumers", {"name": name, "start": start})
    path = f"/api/v1/consumers/{quote(name, safe='')}"
    asked = {"limit": str(limit), "wait_s": "0" if once else str(FOLLOW_WAIT_S)}
    while True:
        reading = api.get(f"{path}/results", asked)
        for one in reading["results"]:
            click.echo(json.dumps(one, separators=(",", ":")))
        sys.stdout.flush()
        if reading["ack"] is not None:
            api.post(f"{path}/ack", {"ack": reading["ack"]})
        elif once:
            return


@click.command()
@click.option("--remove", metavar="NAME", help="Forget this consumer.")
@json_option
@options(CloudSettings, only=("api",))
def consumers(remove: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands over
    """Who reads all results, and how many sequence numbers each is behind.

    \b
    Example:
      littoral results consumers
    """
    api = _api(flags)
    if remove is not None:
        api.delete(f"/api/v1/consumers/{quote(remove, safe='')}")
    emit(api.get("/api/v1/consumers"), as_json, _draw_consumers)


COMMANDS = (list_command, aggregates, follow, consumers)


def draw_results(found: dict[str, Any]) -> RenderableType:
    """A page of results as a table."""
    one_slot = all(one["slot"] == DEFAULT_SLOT for one in found["results"])
    names = [name for name in _NAMES if name != "slot" or not one_slot]
    sampled = any(one["sample"] for one in found["results"])
    rows = [
        [
            _time(one["received_ms"]),
            *(one[name] for name in names),
            f"{one['confidence']:.3f}",
            one["latency_us"],
            one["frame"],
            *([one["sample"] and one["sample"]["id"]] if sampled else []),
        ]
        for one in found["results"]
    ]
    columns = ("received", *names, "confidence", "latency_us", "frame", *(["sample"] if sampled else []))
    drawn = table("Results", columns, rows)
    drawn.caption = f"more: --cursor {found['next']}" if found["next"] else None
    drawn.caption_justify = "left"
    return drawn


def _asked(given: dict[str, Any]) -> tuple[Api, dict[str, Any]]:
    """The API, and the parameters of a request for it."""
    flags = {name: given.pop(name) for name in ("config", "api")}
    asked = {name.rstrip("_"): value for name, value in given.items() if value not in (None, ())}
    return _api(flags), asked


def _api(flags: dict[str, Any]) -> Api:
    return Api(load(CloudSettings, flags.pop("config"), flags).api)


def _draw_aggregates(found: dict[str, Any]) -> RenderableType:
    told = [
        name for name in ("device", "slot", "model", "version", "label") if any(name in one for one in found["entries"])
    ]
    numbers = ("latency_p50_us", "latency_p95_us", "latency_p99_us")
    rows = [
        [
            _time(one["begin_ms"]),
            *(one[name] for name in told),
            one["results"],
            f"{one['confidence_mean']:.3f}",
            *(round(one[name]) if name in one else None for name in numbers),
        ]
        for one in found["entries"]
    ]
    return table(f"Results by {found['bucket']}", ("begin", *told, "results", "confidence", *numbers), rows)


def _draw_consumers(found: list[dict[str, Any]]) -> RenderableType:
    rows = [(one["name"], one["behind"], _time(one["created_ms"])) for one in found]
    return table("Consumers", ("name", "behind", "created"), rows)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(" ", "milliseconds").removesuffix("+00:00")
