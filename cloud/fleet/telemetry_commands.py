"""`littoral devices telemetry`: the history of a device's telemetry, over the API."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
from rich.console import RenderableType

from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from cloud.foundation.times import Since, moment
from protos.kit.settings import load, options

_TOLD = ("latency_p50_us", "latency_p95_us", "inference_errors", "outbox_rows", "model", "version")
COLUMNS = ("measured (UTC)", "inf/s", *_TOLD, "processor", "temperature")


@click.command()
@click.argument("device")
@click.option("--since", type=Since(), help="Measured since then: 2h, 7d, or 2026-11-25T14:00 (UTC).")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Intervals on a page.")
@click.option("--cursor", help="Go on behind a page, with the `next` that it ended with.")
@json_option
@options(CloudSettings, only=("api",))
def telemetry(device: str, since: str | None, limit: int, cursor: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """What a device measured of itself, interval by interval, newest first. Times are by its clock.

    \b
    Examples:
      littoral devices telemetry edge-1 --since 2h
      littoral devices telemetry edge-1 --limit 1000 --json
    """
    api = Api(load(CloudSettings, flags.pop("config"), flags).api)
    asked = {"from": since, "limit": limit, "cursor": cursor}
    only = {name: value for name, value in asked.items() if value is not None}
    emit(api.get(f"/api/v1/devices/{quote(device, safe='')}/telemetry", only), as_json, _draw)


def _draw(found: dict[str, Any]) -> RenderableType:
    drawn = table("Telemetry", COLUMNS, [_row(one) for one in found["intervals"]])
    drawn.caption = f"more: --cursor {found['next']}" if found["next"] else None
    drawn.caption_justify = "left"
    return drawn


def _row(one: dict[str, Any]) -> list[object]:
    health = one["health"] or {}
    warmth, processor = health.get("temperature_c"), health.get("processor")
    return [
        moment(one["measured_ms"]),
        round(one["inferences"] / one["interval_s"]) if one["interval_s"] else None,
        *(one[name] for name in _TOLD),
        None if processor is None else f"{processor:.0%}",
        None if warmth is None else f"{warmth:.1f} °C",
    ]
