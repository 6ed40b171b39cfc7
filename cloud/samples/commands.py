"""`littoral samples`: which frames devices shall send, and those that they sent, over the API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType

from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from cloud.samples.files import INDEX, save, save_index
from cloud.uplink.query_commands import draw_results
from protos.kit.settings import load, options

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"([0-9]+)\s*(|k|m|g|ki|mi|gi)b?")

api_options = options(CloudSettings, only=("api",))


class Size(click.ParamType[int]):
    """A number of bytes: 5000000, 5MB, 5MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """The number."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(value.lower())
        if not found:
            self.fail(f"{value!r} is no number of bytes: write for example 5000000, 5MB or 5MiB", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


@click.group()
def samples() -> None:
    """Frames that devices send in, so that people can look at them and models learn from them.

    \b
    Example:
      littoral samples policy set unsure --model digits --below 0.6 --budget 5MB
      littoral samples list
      littoral samples get --output frames
    """


@samples.group()
def policy() -> None:
    """What devices shall sample.

    \b
    Example:
      littoral samples policy set unsure --model digits --below 0.6 --budget 5MB
    """


@policy.command("set")
@click.argument("name")
@click.option("--model", default="", help="Only frames of this model; without it: of any.")
@click.option("--selector", multiple=True, metavar="LABEL=VALUE", help="Only devices that have this label.")
@click.option("--below", type=click.FloatRange(0, 1), default=0, help="Frames whose confidence is below.")
@click.option("--disagreement", is_flag=True, help="Frames that champion and challenger answer differently.")
@click.option("--share", type=click.FloatRange(0, 1), default=0, help="Of all frames, drawn by lot.")
@click.option("--budget", type=Size(), required=True, help="Bytes a device may send in a day (UTC): 5MB.")
@json_option
@api_options
def set_policy(*, name: str, as_json: bool, **flags: Any) -> None:  # noqa: ANN401 - as click hands them over
    """Set policy NAME. Devices follow it within seconds, and after a restart.

    \b
    Example:
      littoral samples policy set unsure --model digits --below 0.6 --share 0.001 --budget 5MB
      littoral samples policy set harbour --selector site=harbour --disagreement --budget 50MB
    """
    body = {
        "model": flags.pop("model"),
        "selector": dict(_label(text) for text in flags.pop("selector")),
        "below": flags.pop("below"),
        "disagreement": flags.pop("disagreement"),
        "share": flags.pop("share"),
        "bytes_per_day": flags.pop("budget"),
    }
    found = _api(flags).put(f"/api/v1/sample-policies/{name}", body)
    emit(found, as_json, lambda one: _draw_policies([one]))


@policy.command("list")
@json_option
@api_options
def list_policies(*, as_json: bool, **flags: Any) -> None:  # noqa: ANN401 - as click hands them over
    """All policies.

    \b
    Example:
      littoral samples policy list --json
    """
    emit(_api(flags).get("/api/v1/sample-policies"), as_json, _draw_policies)


@policy.command("remove")
@click.argument("name")
@api_options
def remove_policy(*, name: str, **flags: Any) -> None:  # noqa: ANN401 - as click hands them over
    """Remove policy NAME. What was sampled by it stays.

    \b
    Example:
      littoral samples policy remove unsure
    """
    _api(flags).delete(f"/api/v1/sample-policies/{name}")
    click.echo(f"Policy {name} is removed: devices follow it no more.")


def _filters(command: Any) -> Any:  # noqa: ANN401 - click's decorators
    for decorate in (
        click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="So many at most."),
        click.option("--reason", help="Only these: low confidence, disagreement, random."),
        click.option("--model", help="Only frames of this model."),
        click.option("--device", help="Only frames of this device."),
    ):
        command = decorate(command)
    return command


@samples.command("list")
@_filters
@json_option
@api_options
def list_samples(*, as_json: bool, **flags: Any) -> None:  # noqa: ANN401 - as click hands them over
    """Samples, the newest first.

    \b
    Example:
      littoral samples list --device edge-1 --reason "low confidence"
    """
    query = _query(flags)
    emit(_api(flags).get("/api/v1/samples", query), as_json, _draw_samples)


@samples.command("get")
@click.argument("ids", type=click.IntRange(min=1), nargs=-1, metavar="[ID]...")
@_filters
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the files.")
@json_option
@api_options
def get_samples(*, ids: tuple[int, ...], output: Path, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Download samples, these or the newest: frames as PGM, PPM or .npy, and samples.jsonl with their results.

    \b
    Example:
      littoral samples get --model digits --reason "low confidence" --limit 500 --output frames
      littoral samples get 17 18 --output frames
    """
    query = _query(flags)
    api = _api(flags)
    chosen = [api.get(f"/api/v1/samples/{one}") for one in ids] if ids else api.get("/api/v1/samples", query)
    saved = [(one, save(output, one, api.download(f"/api/v1/samples/{one['id']}/frame"))) for one in chosen]
    if saved:
        save_index(output, saved)
    told = {"folder": str(output), "samples": len(saved), "index": INDEX if saved else None}
    emit(told, as_json, lambda _: f"{len(saved)} samples in {output}")


@samples.command("results")
@click.argument("sample", type=click.IntRange(min=1), metavar="ID")
@json_option
@api_options
def sample_results(*, sample: int, as_json: bool, **flags: Any) -> None:  # noqa: ANN401 - as click hands them over
    """What models said of sample ID's frame: of whichever version, in whichever slot.

    \b
    Example:
      littoral samples results 17
    """
    found = _api(flags).get(f"/api/v1/samples/{sample}/results")
    emit(found, as_json, lambda every: draw_results({"results": every, "next": None}))


def _query(flags: dict[str, Any]) -> dict[str, str]:
    chosen = {name: flags.pop(name) for name in ("device", "model", "reason", "limit")}
    return {name: str(value) for name, value in chosen.items() if value is not None}


def _api(flags: dict[str, Any]) -> Api:
    return Api(load(CloudSettings, flags.pop("config"), flags).api)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError(f"--selector {text!r} is not of the form label=value")
    return key, value


def _draw_policies(found: list[dict[str, Any]]) -> RenderableType:
    columns = ("name", "model", "selector", "below", "disagreement", "share", "bytes_per_day")
    shown = [{**one, "selector": ",".join(f"{k}={v}" for k, v in sorted(one["selector"].items()))} for one in found]
    return table("Sample policies", columns, [[one[name] for name in columns] for one in shown])


def _draw_samples(found: list[dict[str, Any]]) -> RenderableType:
    columns = ("id", "device", "source", "frame", "model", "version", "label", "confidence", "reason", "bytes")
    rows = [
        [*(one[name] for name in columns[:7]), f"{one['confidence']:.3f}", one["reason"], one["bytes"]] for one in found
    ]
    return table("Samples", columns, rows)
