"""`littoral devices`: the fleet, over the API."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import click
from rich.console import Group, RenderableType

from cloud.fleet.entities import Outcome
from cloud.fleet.telemetry_commands import telemetry
from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from protos.kit.settings import load, options

PAGE = 1000
MEBIBYTE = 1024 * 1024
COLUMNS = (
    "device",
    "online",
    "state",
    "model",
    "version",
    "generation",
    "inf/s",
    "p95 µs",
    "outbox",
    "seen",
    "reason",
    "alarms",
)

SLOT_COLUMNS = ("slot", "state", "model", "version", "generation", "variant", "threads", "reason")
VARIANT_COLUMNS = (
    "slot",
    "variant",
    "in use",
    "µs a frame",
    "µs alone",
    "accuracy",
    "threads",
    "measured in version",
    "problem",
)


@click.group()
def devices() -> None:
    """Devices: what they run and what they proved.

    \b
    Example:
      littoral devices list --json
    """


@devices.command("list")
@json_option
@options(CloudSettings, only=("api",))
def list_(as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """All devices.

    \b
    Example:
      littoral devices list
    """
    emit(_all(_api(flags)), as_json, _draw)


@devices.command()
@click.argument("device")
@json_option
@options(CloudSettings, only=("api",))
def show(device: str, as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """One device, its labels, its slots, and what it measured of the variants of its models.

    \b
    Example:
      littoral devices show edge-1
    """
    found = _api(flags).get(f"/api/v1/devices/{quote(device, safe='')}")
    emit(found, as_json, _draw_one)


@devices.command()
@click.argument("device")
@json_option
@options(CloudSettings, only=("api",))
def health(device: str, as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """How a device and its machine were when it told last: processor, memory, disk, temperature, latencies.

    \b
    Example:
      littoral devices health edge-1
    """
    found = _api(flags).get(f"/api/v1/devices/{quote(device, safe='')}/health")
    emit(found, as_json, _draw_health)


@devices.command()
@click.option("--outcome", type=click.Choice([outcome.value for outcome in Outcome]), help="Only these.")
@click.option("--device", help="Only of this device.")
@json_option
@options(CloudSettings, only=("api",))
def receipts(
    outcome: str | None,
    device: str | None,
    as_json: bool,  # noqa: FBT001 - as click hands it over
    **flags: Any,  # noqa: ANN401 - as click hands them over
) -> None:
    """What devices proved with their signatures, the newest first.

    \b
    Example:
      littoral devices receipts --outcome refused
    """
    only = {"outcome": outcome, "device": device}
    found = _api(flags).get("/api/v1/receipts", {name: value for name, value in only.items() if value})
    emit(found, as_json, _draw_receipts)


@devices.command()
@click.argument("device")
@options(CloudSettings, only=("api",))
def forget(device: str, **flags: Any) -> None:  # noqa: ANN401 - as click hands them over
    """Forget a device's key: the next device that reports under this name is taken for it.

    \b
    Example, after a device's data folder was lost:
      littoral devices forget edge-1
    """
    _api(flags).delete(f"/api/v1/devices/{quote(device, safe='')}")
    click.echo(f"{device} is forgotten", err=True)


devices.add_command(telemetry)


def _api(flags: dict[str, Any]) -> Api:
    return Api(load(CloudSettings, flags.pop("config"), flags).api)


def _all(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = api.get("/api/v1/devices", {"limit": str(PAGE), "after": found[-1]["id"] if found else ""})
        found += page
        if len(page) < PAGE:
            return found


def _draw(found: list[dict[str, Any]]) -> RenderableType:
    now_ms = int(time.time() * 1000)
    columns = _columns(found)
    rows = [[*_row(device, now_ms), *_node(device)][: len(columns)] for device in found]
    drawn = table("Devices", columns, rows)
    several = [(device["id"], slot) for device in found for slot in device["slots"] if len(device["slots"]) > 1]
    if not several:
        return drawn
    slots = [[device, *(slot[name] for name in SLOT_COLUMNS)] for device, slot in several]
    return Group(drawn, table("Slots", ("device", *SLOT_COLUMNS), slots))


def _columns(found: list[dict[str, Any]]) -> tuple[str, ...]:
    return (*COLUMNS, "node") if any(device.get("node") for device in found) else COLUMNS


def _node(device: dict[str, Any]) -> list[object]:
    """A last column, where any device is a node of a cluster."""
    if not (node := device.get("node")):
        return [None]
    return [node["state"].replace("_", " ") + (", cordoned" if node["cordoned"] else "")]


def _row(device: dict[str, Any], now_ms: int) -> list[object]:
    measured = device["telemetry"] or {}
    rate = measured.get("inferences_per_s")
    return [
        device["id"],
        "yes" if device["online"] else "no",
        device["state"],
        device["model"],
        device["version"],
        device["generation"],
        None if rate is None else round(rate),
        measured.get("latency_p95_us"),
        measured.get("outbox_rows"),
        f"{max(0, now_ms - device['last_seen_ms']) // 1000} s ago",
        device["reason"],
        "; ".join(device.get("alarms", [])),
    ]


def _draw_one(device: dict[str, Any]) -> RenderableType:
    labels = table("Labels", ("label", "value"), sorted(device["labels"].items()))
    drawn: list[RenderableType] = [_draw([device]), labels]
    measured = [_variant(slot, row) for slot in device["slots"] for row in slot["variants"]]
    if measured:
        drawn.append(table(f"Variants on {device['hardware']}", VARIANT_COLUMNS, measured))
    return Group(*drawn)


def _variant(slot: dict[str, Any], row: dict[str, Any]) -> list[object]:
    return [
        slot["slot"],
        row["variant"],
        "yes" if row["variant"] == slot["variant"] else "no",
        f"{row['frame_us']:.1f}" if row["frame_us"] else None,
        f"{row['single_us']:.1f}" if row["single_us"] else None,
        f"{row['accuracy']:.2%}" if row["accuracy"] else None,
        row["threads"],
        row["measured_in"] or None,
        row["problem"],
    ]


def _draw_health(found: dict[str, Any]) -> RenderableType:
    warmth = found["temperature_c"]
    rows = [
        ("processor busy", f"{found['processor']:.0%}"),
        ("memory available", _of(found["memory_available"], found["memory"])),
        ("disk free", _of(found["disk_free"], found["disk"])),
        ("temperature", "no sensor" if warmth is None else f"{warmth:.1f} °C"),
        *((name.replace("_", " "), str(found[name])) for name in ("queued_frames", "frames_dropped", "model_crashes")),
        ("agent runs for", f"{found['uptime_ms'] // 1000} s"),
    ]
    bounds = [f"up to {bound / 1000:g} ms" for bound in found["latency_bounds_us"]] + ["above"]
    counted = [row for row in zip(bounds, found["latency_counts"], strict=False) if row[1]]
    drawn = [table("Health", ("what", "how"), rows), table("Latencies", ("frame to result", "frames"), counted)]
    return Group(*drawn, *([_draw_slots(found["slots"])] if found["slots"] else []))


def _draw_slots(slots: list[dict[str, Any]]) -> RenderableType:
    columns = ("slot", "model", "version", "frames", "errors", "dropped", "crashes", "p50 µs", "p95 µs")
    names = "slot model version inferences inference_errors frames_dropped model_crashes latency_p50_us latency_p95_us"
    return table("Slots", columns, [[slot[name] for name in names.split()] for slot in slots])


def _of(part: int, whole: int) -> str:
    return f"{part / MEBIBYTE:.0f} of {whole / MEBIBYTE:.0f} MiB" if whole else "not known"


def _draw_receipts(found: list[dict[str, Any]]) -> RenderableType:
    columns = ("device", "model", "version", "generation", "outcome", "reason")
    return table("Receipts", columns, [[receipt[name] for name in columns] for receipt in found])
