"""`littoral rollout`: rollouts, over the API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live

from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from cloud.rollouts.entities import State
from protos.kit.settings import load, options
from protos.topics import DEFAULT_SLOT

PATH = "/api/v1/rollouts"
FINAL = {State.SUCCEEDED.value, State.FAILED.value, State.ABORTED.value, State.SUPERSEDED.value}
LOOK_S = 0.5
MEMBERS_SHOWN = 20
WAVE_COLUMNS = ("state", "size", "pending", "succeeded", "failed")
RARE_COLUMNS = ("unreachable", "incompatible", "rolled_back", "held")
"""Shown where they are not zero: a terminal has 80 columns."""

api_options = options(CloudSettings, only=("api",))


@click.group()
def rollout() -> None:
    """Rollouts: a model version to the fleet, wave by wave.

    \b
    Example:
      littoral rollout create --model digits --version 2 --wave 1 --wave rest --watch
    """


@rollout.command()
@click.option("--model", required=True, help="Name of the model.")
@click.option("--version", required=True, type=click.IntRange(min=1), help="Version of the model.")
@click.option("--wave", "waves", multiple=True, help="Size of a wave: 5, 25% (of all), rest. [default: 1, rest]")
@click.option("--slot", help="Slot of the devices that is to run it. [default: default]")
@click.option("--selector", multiple=True, metavar="LABEL=VALUE", help="Only devices that have this label.")
@click.option("--max-failed", type=float, help="Share of a wave that may fail, 0 to 1. [default: 0]")
@click.option("--min-succeeded", type=float, help="Share of a wave that must succeed. [default: 1]")
@click.option("--soak", type=float, help="Seconds to wait after a wave's last success. [default: 0]")
@click.option("--lease", type=float, help="Seconds of silence after which a device is unreachable. [default: 60]")
@click.option("--timeout", type=float, help="Seconds in which a device must answer. [default: 300]")
@click.option("--watch", is_flag=True, help="Show it until it ends, as `littoral rollout watch` does.")
@json_option
@api_options
@click.pass_context
def create(context: click.Context, /, **flags: Any) -> None:  # noqa: ANN401 - as click hands them over
    """Begin a rollout.

    \b
    Example:
      littoral rollout create --model digits --version 2 --wave 1 --wave 25% --wave rest --selector site=a
      littoral rollout create --model gates --version 1 --slot doors
    """
    as_json, watched = flags.pop("as_json"), flags.pop("watch")
    wanted = _wanted(flags)
    api = _api(flags)
    created = api.post(PATH, wanted)
    if watched:
        context.exit(_watch(api, created["id"], as_json=as_json))
    emit(created, as_json, _draw)


@rollout.command("list")
@json_option
@api_options
def list_(as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """Rollouts, the newest first.

    \b
    Example:
      littoral rollout list
    """
    emit(_api(flags).get(PATH), as_json, _draw_list)


@rollout.command()
@click.argument("id")
@json_option
@api_options
def show(id: str, as_json: bool, **flags: Any) -> None:  # noqa: A002, ANN401, FBT001 - as click hands them over
    """One rollout, its waves and devices.

    \b
    Example:
      littoral rollout show r-1f2e3d4c
    """
    emit(_api(flags).get(_path(id)), as_json, _draw)


@rollout.command()
@click.argument("id")
@json_option
@api_options
@click.pass_context
def watch(context: click.Context, /, id: str, as_json: bool, **flags: Any) -> None:  # noqa: A002, ANN401, FBT001
    """Show a rollout until it ends; exit code 0: it succeeded, 1: it failed or was aborted.

    With --json, one line for each change.

    \b
    Example:
      littoral rollout watch r-1f2e3d4c && echo done
    """
    context.exit(_watch(_api(flags), id, as_json=as_json))


@rollout.command()
@click.argument("id")
@json_option
@api_options
def abort(id: str, as_json: bool, **flags: Any) -> None:  # noqa: A002, ANN401, FBT001 - as click hands them over
    """End a rollout: every device gets back what it had before.

    \b
    Example:
      littoral rollout abort r-1f2e3d4c
    """
    emit(_api(flags).post(f"{_path(id)}/abort"), as_json, _draw)


@rollout.command()
@click.argument("id")
@json_option
@api_options
def pause(id: str, as_json: bool, **flags: Any) -> None:  # noqa: A002, ANN401, FBT001 - as click hands them over
    """Begin no further wave until the rollout is resumed.

    \b
    Example:
      littoral rollout pause r-1f2e3d4c
    """
    emit(_api(flags).post(f"{_path(id)}/pause"), as_json, _draw)


@rollout.command()
@click.argument("id")
@json_option
@api_options
def resume(id: str, as_json: bool, **flags: Any) -> None:  # noqa: A002, ANN401, FBT001 - as click hands them over
    """Go on with a paused rollout.

    \b
    Example:
      littoral rollout resume r-1f2e3d4c
    """
    emit(_api(flags).post(f"{_path(id)}/resume"), as_json, _draw)


def _api(flags: dict[str, Any]) -> Api:
    return Api(load(CloudSettings, flags.pop("config"), {"api": flags["api"]}).api)


def _path(rollout_id: str) -> str:
    return f"{PATH}/{quote(rollout_id, safe='')}"


def _wanted(flags: dict[str, Any]) -> dict[str, Any]:
    """The request in the flags. What was not given is left to the API's defaults."""
    gates = {
        "max_failed_share": flags["max_failed"],
        "min_succeeded_share": flags["min_succeeded"],
        "soak_s": flags["soak"],
        "lease_s": flags["lease"],
        "timeout_s": flags["timeout"],
    }
    wanted = {
        "model": flags["model"],
        "version": flags["version"],
        "selector": dict(_label(text) for text in flags["selector"]),
        "gates": {name: value for name, value in gates.items() if value is not None},
    }
    given = {"waves": list(flags["waves"]), "slot": flags["slot"]}
    return wanted | {name: value for name, value in given.items() if value}


def _label(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not label or not equals:
        raise click.UsageError(f"--selector {text!r} is not of the form label=value")
    return label, value


def _watch(api: Api, rollout_id: str, *, as_json: bool) -> int:
    """Show until it ends; returns the exit code."""
    found = _follow(api, rollout_id, _print_line) if as_json else _follow_live(api, rollout_id)
    return 0 if found["state"] == State.SUCCEEDED.value else 1


def _follow_live(api: Api, rollout_id: str) -> dict[str, Any]:
    console = Console()
    if not console.is_terminal:
        return _follow(api, rollout_id, lambda found: console.print(_draw(found)))
    with Live(console=console, auto_refresh=False) as live:
        return _follow(api, rollout_id, lambda found: live.update(_draw(found), refresh=True))


def _follow(api: Api, rollout_id: str, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Tell every change until it ends; returns the end."""
    told: dict[str, Any] = {}
    while True:
        found: dict[str, Any] = api.get(_path(rollout_id))
        if found != told:
            tell(found)
            told = found
        if found["state"] in FINAL:
            return found
        time.sleep(LOOK_S)


def _print_line(found: dict[str, Any]) -> None:
    click.echo(json.dumps(found))


def _draw_list(found: list[dict[str, Any]]) -> RenderableType:
    columns = ("id", "model", "version", "state", "created", "succeeded", "devices", "reason")
    return table("Rollouts", columns, [_row(one) for one in found])


def _row(one: dict[str, Any]) -> list[object]:
    created = datetime.fromtimestamp(one["created_ms"] / 1000, UTC).isoformat(" ", "seconds")
    succeeded = sum(wave["succeeded"] for wave in one["waves"])
    devices = sum(wave["size"] for wave in one["waves"])
    return [one["id"], one["model"], one["version"], one["state"], created, succeeded, devices, one["reason"]]


def _draw(found: dict[str, Any]) -> RenderableType:
    where = "" if found["slot"] == DEFAULT_SLOT else f" in slot {found['slot']}"
    title = f"{found['id']}: {found['model']} {found['version']}{where}, {found['state']}"
    if found["reason"]:
        title += f" ({found['reason']})"
    columns = [*WAVE_COLUMNS, *(name for name in RARE_COLUMNS if any(wave[name] for wave in found["waves"]))]
    waves = [[number, *(wave[name] for name in columns)] for number, wave in enumerate(found["waves"], 1)]
    shown = sorted(found["members"], key=lambda member: (not member["reason"], member["wave"], member["device"]))
    members = [
        [member["device"], member["wave"] + 1, member["state"], member["generation"], member["reason"]]
        for member in shown[:MEMBERS_SHOWN]
    ]
    more = len(shown) - len(members)
    return Group(
        table(title, ("wave", *columns), waves),
        table("", ("device", "wave", "state", "generation", "reason"), members),
        f"and {more} more devices: --json shows all" if more else "",
    )
