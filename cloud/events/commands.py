"""`littoral events`: what happened on the devices, over the API."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import RenderableType

from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from cloud.foundation.times import Since, moment
from protos.kit.settings import load, options

EVERY_S = 2.0
LATE_MS = 60_000
"""So late after its receipt an event may become visible: transactions do not end in the order in which they began."""
PAGE = 1000
COLUMNS = ("received", "happened", "device", "severity", "kind", "slot", "model", "version", "times", "text")


@click.group()
def events() -> None:
    """What happened on the devices.

    \b
    Example:
      littoral events list --severity warning
    """


@events.command("list")
@click.option("--device", help="Of this device.")
@click.option("--kind", help="Of this kind, as update.committed; update: all of the updates.")
@click.option("--severity", type=click.Choice(["info", "warning", "error"]), help="At least that.")
@click.option("--since", type=Since(), help="Received since then: 2h, 7d, or 2026-11-25T14:00 (UTC).")
@click.option("--limit", type=click.IntRange(1, PAGE), default=20, show_default=True, help="Events on a page.")
@click.option("--cursor", help="Go on behind a page, with the `next` that it ended with.")
@click.option("--follow", is_flag=True, help="Print a line for each, oldest first, and wait for more.")
@json_option
@options(CloudSettings, only=("api",))
def list_events(since: str | None, cursor: str | None, follow: bool, as_json: bool, **given: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """What happened, newest first. --follow begins with the last ones, or those --since, and goes on.

    \b
    Examples:
      littoral events list --device edge-1 --since 2h
      littoral events list --kind update --severity warning --json
      littoral events list --follow
    """
    api = Api(load(CloudSettings, given.pop("config"), {"api": given.pop("api")}).api)
    limit = given.pop("limit")
    asked = {name: value for name, value in (given | {"from": since}).items() if value is not None}
    if not follow:
        page = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        emit(api.get("/api/v1/events", asked | page), as_json, _draw)
        return
    if cursor:
        raise click.UsageError("--cursor goes on behind a page of those that were: not with --follow")
    for event in following(api, asked, limit):
        click.echo(json.dumps(event, separators=(",", ":")) if as_json else _line(event))


def following(api: Api, asked: dict[str, Any], last: int) -> Iterator[dict[str, Any]]:
    """Each event once, oldest first, for ever: from `asked` on, or if that names no time from the `last` ones on."""
    begin_ms = _begin_ms(api, asked, last)
    seen: dict[str, int] = {}
    while True:
        for event in _all(api, asked | {"from": _iso(begin_ms), "order": "oldest", "limit": PAGE}):
            if event["id"] not in seen:
                yield event
            seen[event["id"]] = event["received_ms"]
        begin_ms = max(begin_ms, max(seen.values(), default=0) - LATE_MS)
        seen = {number: received_ms for number, received_ms in seen.items() if received_ms >= begin_ms}
        time.sleep(EVERY_S)


def _begin_ms(api: Api, asked: dict[str, Any], last: int) -> int:
    if "from" in asked:
        return int(datetime.fromisoformat(asked["from"]).timestamp() * 1000)
    there = api.get("/api/v1/events", asked | {"limit": last})["events"]
    return int(there[-1]["received_ms"]) if there else 0


def _all(api: Api, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Page after page."""
    while True:
        page = api.get("/api/v1/events", asked)
        yield from page["events"]
        if page["next"] is None:
            return
        asked = asked | {"cursor": page["next"]}


def _draw(found: dict[str, Any]) -> RenderableType:
    rows = [
        [moment(one["received_ms"]), moment(one["happened_ms"]), *(one[name] for name in COLUMNS[2:])]
        for one in found["events"]
    ]
    drawn = table("Events (times in UTC)", COLUMNS, rows)
    drawn.caption = f"more: --cursor {found['next']}" if found["next"] else None
    drawn.caption_justify = "left"
    return drawn


def _line(event: dict[str, Any]) -> str:
    about = [str(event[name]) for name in ("slot", "model", "version") if event[name]]
    times = [f"(x{event['times']})"] if event["times"] > 1 else []
    words = [moment(event["received_ms"]), event["device"], event["severity"], event["kind"], *about, event["text"]]
    return "  ".join([*filter(None, words), *times])


def _iso(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat()
