"""`littoral shadow`: challengers, over the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.console import Group, RenderableType

from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from protos.kit.settings import load, options

PATH = "/api/v1/shadow"
MEASURES = ("compared", "agree", "confidence", "µs p50", "µs p95")

api_options = options(CloudSettings, only=("api",))
selector_option = click.option("--selector", multiple=True, metavar="LABEL=VALUE", help="Devices that have this label.")
device_option = click.option("--device", "devices", multiple=True, help="This device. [default: all]")


@click.group()
def shadow() -> None:
    """Challengers: a version that answers the champion's frames, too, for comparison only.

    \b
    Example:
      littoral shadow start digits 2 --share 0.1
      littoral shadow show
    """


@shadow.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Share of the champion's frames that it answers, too.",
)
@selector_option
@device_option
@json_option
@api_options
def start(  # noqa: PLR0917 - as click hands them over
    model: str,
    version: int,
    share: float,
    selector: Sequence[str],
    devices: Sequence[str],
    as_json: bool,  # noqa: FBT001 - as click hands it over
    **flags: Any,  # noqa: ANN401 - as click hands them over
) -> None:
    """Run a version beside the champion on devices that have reported by now.

    \b
    Example:
      littoral shadow start digits 2 --share 0.1 --selector site=a
    """
    wanted = {"model": model, "version": version, "share": share, **_chosen(selector, devices)}
    emit(_api(flags).post(f"{PATH}/start", wanted), as_json, _draw)


@shadow.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(min=1))
@selector_option
@device_option
@json_option
@api_options
def stop(
    model: str,
    version: int,
    selector: Sequence[str],
    devices: Sequence[str],
    as_json: bool,  # noqa: FBT001 - as click hands it over
    **flags: Any,  # noqa: ANN401 - as click hands them over
) -> None:
    """Run it no more; what was compared stays to be shown.

    \b
    Example:
      littoral shadow stop digits 2
    """
    wanted = {"model": model, "version": version, **_chosen(selector, devices)}
    emit(_api(flags).post(f"{PATH}/stop", wanted), as_json, _draw)


@shadow.command()
@click.argument("model", required=False)
@click.argument("version", required=False, type=click.IntRange(min=1))
@json_option
@api_options
def show(
    model: str | None,
    version: int | None,
    as_json: bool,  # noqa: FBT001 - as click hands it over
    **flags: Any,  # noqa: ANN401 - as click hands them over
) -> None:
    """How challengers do beside their champions.

    \b
    Example:
      littoral shadow show digits 2
    """
    only = {name: str(value) for name, value in (("model", model), ("version", version)) if value}
    emit(_api(flags).get(PATH, only), as_json, _draw)


def _api(flags: dict[str, Any]) -> Api:
    return Api(load(CloudSettings, flags.pop("config"), {"api": flags["api"]}).api)


def _chosen(selector: Sequence[str], devices: Sequence[str]) -> dict[str, Any]:
    return {"selector": dict(_label(text) for text in selector), "devices": list(devices)}


def _label(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not label or not equals:
        raise click.UsageError(f"--selector {text!r} is not of the form label=value")
    return label, value


def _draw(found: dict[str, Any]) -> RenderableType:
    duels = [[*_pair(one), one["devices"], *_measures(one)] for one in found["duels"]]
    confusions = [[*_pair(one), *pair.values()] for one in found["duels"] for pair in one["confusions"]]
    devices = [
        [one["device"], *_pair(one), f"{one['share']:.0%}", one["state"], *_measures(one), one["reason"]]
        for one in found["devices"]
    ]
    parts: list[RenderableType] = [
        table("Champion and challenger", ("champion", "challenger", "devices", *MEASURES), duels),
        table("Devices", ("device", "champion", "challenger", "share", "state", *MEASURES, "reason"), devices),
    ]
    if confusions:
        columns = ("champion", "challenger", "champion says", "challenger says", "frames")
        parts.insert(1, table("Where they disagree", columns, confusions))
    return Group(*parts)


def _pair(one: dict[str, Any]) -> list[str]:
    return [_named(one["champion"], one["champion_version"]), _named(one["model"], one["version"])]


def _named(model: str | None, version: int | None) -> str:
    return f"{model} {version}" if model else ""


def _measures(one: dict[str, Any]) -> list[object]:
    if not one["compared"]:
        return [0, None, None, None, None]
    return [
        one["compared"],
        f"{one['agreement']:.2%}",
        f"{one['confidence_change']:+.3f}",
        f"{one['champion_p50_us']:.0f} → {one['challenger_p50_us']:.0f}",
        f"{one['champion_p95_us']:.0f} → {one['challenger_p95_us']:.0f}",
    ]
