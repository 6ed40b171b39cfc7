"""`littoral drift`: whether the models still see and say what they were made for, over the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Group, RenderableType

from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from cloud.foundation.times import Since, moment
from protos.kit.settings import load, options

MEASURES = ("frames", "labels PSI", "p", "confidence PSI", "p", "shift")


@click.command()
@click.option("--model", help="Only this model.")
@click.option("--device", help="Only this device.")
@click.option(
    "--since", type=Since(), help="Hour by hour since then: 2d, or 2026-11-25T14:00 (UTC); not the last windows."
)
@json_option
@options(CloudSettings, only=("api",))
def drift(model: str | None, device: str | None, since: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """How far what devices see and say is from their models' held-out data, and since when.

    PSI: 0 is no difference, 0.1 a small one, 0.2 a large one. p: how likely chance alone makes as much. Shift: of the
    frames' brightness, in standard deviations.

    \b
    Examples:
      littoral drift --model digits
      littoral drift --device edge-1 --since 2d
    """
    api = Api(load(CloudSettings, flags.pop("config"), flags).api)
    only = {name: value for name, value in (("model", model), ("device", device)) if value}
    if since is None:
        emit(api.get("/api/v1/drift", only), as_json, _draw)
    else:
        emit(api.get("/api/v1/drift/history", only | {"from": since}), as_json, _draw_history)


def _draw(found: dict[str, Any]) -> RenderableType:
    models = [
        [one["model"], one["version"], one["variant"], one["devices"], one["drifting"], *_measures(one), one["alarm"]]
        for one in found["models"]
    ]
    drifting_first = sorted(found["devices"], key=lambda one: (one["since_ms"] is None, one["device"]))
    devices = [
        [one["device"], one["model"], one["version"], *_measures(one), _since(one["since_ms"]), one["alarm"]]
        for one in drifting_first
    ]
    return Group(
        table("Models", ("model", "version", "variant", "devices", "drifting", *MEASURES, "alarm"), models),
        table("Devices", ("device", "model", "version", *MEASURES, "since", "alarm"), devices),
    )


def _draw_history(found: list[dict[str, Any]]) -> RenderableType:
    rows = [
        [moment(one["begin_ms"]), one["device"] or "all", one["model"], one["version"], *_measures(one), one["alarm"]]
        for one in found
    ]
    return table("Drift by hour (UTC)", ("begin", "device", "model", "version", *MEASURES, "alarm"), rows)


def _measures(one: dict[str, Any]) -> list[object]:
    return [
        one["frames"],
        round(one["labels_psi"], 3),
        float(f"{one['labels_p']:.2g}"),
        round(one["confidences_psi"], 3),
        float(f"{one['confidences_p']:.2g}"),
        round(one["input_shift"], 2),
    ]


def _since(since_ms: int | None) -> str:
    return "" if since_ms is None else datetime.fromtimestamp(since_ms / 1000, UTC).isoformat(" ", "seconds")
